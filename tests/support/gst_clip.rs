//! What the cameras of the embedded server send: one second of video, encoded once per process,
//! and one second of sound, both looped for ever.
//!
//! Everything a test may want to know is in the media itself, so that it survives RTP, depayloading
//! and recording to a file:
//! - every access unit carries a [`Stamp`] (an SEI message) with the camera's number and the
//!   running number of the frame: a packet on the wrong pad, a lost or a doubled frame shows;
//! - the picture shows the camera's number in a colour of its own, for people;
//! - once a second, at the same media time, the picture flashes and the sound beeps:
//!   [`Stamp::is_flash`] and [`is_beep`] give the two sides of lip-sync;
//! - the "silence" of every camera is a level of its own: [`silence`].

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// Frames per second, and in a clip: each begins with its only keyframe.
pub(crate) const FRAME_RATE: usize = 25;
pub(crate) const FRAME_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(40);
/// Two frames, and as long a beep.
pub(crate) const FLASH_FRAMES: u64 = 2;
/// A-law at 8 kHz, 20 ms in one packet.
pub(crate) const AUDIO_CHUNK: usize = 160;
pub(crate) const AUDIO_CHUNK_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(20);
/// The beep, a square wave of 1 kHz: A-law for + and - 1/8 of full scale.
const BEEP: [u8; 2] = [0x9A, 0x1A];

/// Identifies our SEI message (user_data_unregistered); has no zero byte, so nothing of it is
/// ever escaped.
const STAMP_UUID: &[u8; 16] = b"rtspmuxsrc-stamp";
const STAMP_DIGITS: usize = 10;

/// Where an access unit comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) camera: usize,
    /// Counted from 0 at the start of the medium; a shared medium goes on counting for the next
    /// client.
    pub(crate) frame: u64,
}

impl Stamp {
    /// Finds the stamp in an RTP packet, an RTP payload, a byte-stream or an AVC access unit. Of
    /// the packets of one access unit one carries it: one NAL unit, one packet.
    pub(crate) fn find(data: &[u8]) -> Option<Self> {
        let uuid = data
            .windows(STAMP_UUID.len())
            .position(|window| window == STAMP_UUID)?;
        let digits = &data[uuid + STAMP_UUID.len()..];
        Some(Self {
            camera: usize::try_from(number(digits.get(..STAMP_DIGITS)?)?).ok()?,
            frame: number(digits.get(STAMP_DIGITS..2 * STAMP_DIGITS)?)?,
        })
    }

    /// Whether the picture is one of those that flash, together with the beep.
    pub(crate) fn is_flash(self) -> bool {
        self.frame % (FRAME_RATE as u64) < FLASH_FRAMES
    }

    /// The SEI NAL unit, start code included.
    fn to_sei(self) -> Vec<u8> {
        let text = format!("{:010}{:010}", self.camera, self.frame);
        let mut sei = vec![0, 0, 0, 1, 0x06, 0x05];
        sei.push((STAMP_UUID.len() + text.len()) as u8);
        sei.extend_from_slice(STAMP_UUID);
        sei.extend_from_slice(text.as_bytes());
        sei.push(0x80);
        sei
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The A-law byte that camera sends between its beeps: its own among 64 neighbours, a DC offset
/// that cannot be heard.
pub(crate) fn silence(camera: usize) -> u8 {
    0xD5 ^ (camera % 64) as u8
}

/// Whether this A-law payload is part of a beep.
pub(crate) fn is_beep(payload: &[u8]) -> bool {
    !payload.is_empty() && payload.iter().all(|sample| BEEP.contains(sample))
}

/// Chunk number `chunk` of the sound of a camera.
pub(crate) fn audio_chunk(camera: usize, chunk: u64) -> gst::Buffer {
    let chunks_per_second = 50;
    let beep_chunks = FLASH_FRAMES * 2;
    let samples: Vec<u8> = if chunk % chunks_per_second < beep_chunks {
        (0..AUDIO_CHUNK).map(|i| BEEP[i / 4 % 2]).collect()
    } else {
        vec![silence(camera); AUDIO_CHUNK]
    };
    buffer(samples, chunk, AUDIO_CHUNK_DURATION)
}

fn buffer(data: Vec<u8>, index: u64, duration: gst::ClockTime) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_mut_slice(data);
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(index * duration);
        buffer.set_dts(index * duration);
        buffer.set_duration(duration);
    }
    buffer
}

/// What the pictures are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Format {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Grain is added to the pictures until they take this many kbit/s; without it they take what
    /// they need.
    pub(crate) kbits: Option<usize>,
}

impl Format {
    /// What a test needs that does not look at the pictures.
    pub(crate) const SMALL: Self = Self {
        width: 160,
        height: 120,
        kbits: None,
    };
}

/// One second of H.264 of one camera.
#[derive(Debug)]
pub(crate) struct Clip {
    camera: usize,
    units: Vec<AccessUnit>,
}

#[derive(Debug)]
struct AccessUnit {
    data: Vec<u8>,
    /// Where the first slice begins, its start code included: the stamp goes before it.
    slice: usize,
}

impl Clip {
    /// Frame number `frame` of the endless loop, stamped.
    pub(crate) fn frame(&self, frame: u64) -> gst::Buffer {
        let unit = &self.units[(frame % self.units.len() as u64) as usize];
        let stamp = Stamp {
            camera: self.camera,
            frame,
        };
        let (head, slices) = unit.data.split_at(unit.slice);
        buffer(
            [head, &stamp.to_sei(), slices].concat(),
            frame,
            FRAME_DURATION,
        )
    }
}

/// The first `frames` frames of camera 0 in a file, stamped.
pub(crate) fn record(frames: u64, file: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let clip = clips(1, Format::SMALL)?.remove(0);
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time caps=video/x-h264,stream-format=byte-stream,alignment=au,width=160,height=120,framerate={FRAME_RATE}/1 \
         ! h264parse ! mp4mux ! filesink location={}",
        file.display()
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let input = child::<gst_app::AppSrc>(&pipeline, "in")?;
    pipeline.set_state(gst::State::Playing)?;
    for frame in 0..frames {
        input.push_buffer(clip.frame(frame))?;
    }
    input.end_of_stream()?;
    let bus = pipeline.bus().ok_or("no bus")?;
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted);
    pipeline.set_state(gst::State::Null)?;
    match end.map(|end| end.type_()) {
        Some(gst::MessageType::Eos) => Ok(()),
        end => Err(format!("{end:?}").into()),
    }
}

type Clips = HashMap<(Format, usize), Arc<Clip>>;

/// The clips of cameras `0..cameras`. Encodes, in one go, those this process does not have yet.
pub(crate) fn clips(cameras: usize, format: Format) -> Result<Vec<Arc<Clip>>, Box<dyn Error>> {
    static CLIPS: LazyLock<Mutex<Clips>> = LazyLock::new(Mutex::default);
    let mut known = CLIPS.lock().unwrap_or_else(PoisonError::into_inner);
    let missing: Vec<usize> = (0..cameras)
        .filter(|&camera| !known.contains_key(&(format, camera)))
        .collect();
    if !missing.is_empty() {
        for clip in encode(&missing, format)? {
            known.insert((format, clip.camera), Arc::new(clip));
        }
    }
    Ok((0..cameras)
        .map(|camera| Arc::clone(&known[&(format, camera)]))
        .collect())
}

/// One run of one encoder for all cameras: with a keyframe every `FRAME_RATE` frames, and only
/// there, its output falls into clips that stand alone.
fn encode(cameras: &[usize], format: Format) -> Result<Vec<Clip>, Box<dyn Error>> {
    let Format { width, height, .. } = format;
    let rate = match format.kbits {
        Some(kbits) => format!("pass=cbr bitrate={kbits} vbv-buf-capacity=1000"),
        None => "pass=qual quantizer=24".to_owned(),
    };
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in format=time block=true max-bytes=4000000 \
           caps=video/x-raw,format=I420,width={width},height={height},framerate={FRAME_RATE}/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast {rate} threads=1 \
           key-int-max={FRAME_RATE} option-string=scenecut=0 \
         ! video/x-h264,stream-format=byte-stream,alignment=au,profile=constrained-baseline \
         ! appsink name=out sync=false"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let input = child::<gst_app::AppSrc>(&pipeline, "in")?;
    let output = child::<gst_app::AppSink>(&pipeline, "out")?;
    let units = Arc::new(Mutex::new(Vec::new()));
    let collected = Arc::clone(&units);
    output.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |output| {
                let sample = output.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
                collected.push(sample.buffer_owned().ok_or(gst::FlowError::Error)?);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    pipeline.set_state(gst::State::Playing)?;
    let pictures = cameras
        .iter()
        .flat_map(|&camera| (0..FRAME_RATE).map(move |frame| picture(camera, frame, format)));
    for (index, picture) in pictures.enumerate() {
        input.push_buffer(buffer(picture, index as u64, FRAME_DURATION))?;
    }
    input.end_of_stream()?;
    let end = pipeline
        .bus()
        .and_then(|bus| {
            bus.timed_pop_filtered(
                gst::ClockTime::from_seconds(60),
                &[gst::MessageType::Eos, gst::MessageType::Error],
            )
        })
        .ok_or("x264enc did not finish")?;
    pipeline.set_state(gst::State::Null)?;
    if let gst::MessageView::Error(error) = end.view() {
        return Err(format!("x264enc: {}", error.error()).into());
    }
    let units = std::mem::take(&mut *units.lock().unwrap_or_else(PoisonError::into_inner));
    if units.len() != cameras.len() * FRAME_RATE {
        return Err(format!("x264enc made {} access units", units.len()).into());
    }
    cameras
        .iter()
        .zip(units.chunks(FRAME_RATE))
        .map(|(&camera, units)| clip(camera, units))
        .collect()
}

fn clip(camera: usize, buffers: &[gst::Buffer]) -> Result<Clip, Box<dyn Error>> {
    let mut units = Vec::with_capacity(buffers.len());
    for (frame, buffer) in buffers.iter().enumerate() {
        let is_key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        if is_key != (frame == 0) {
            return Err(format!("frame {frame}: keyframe is {is_key}").into());
        }
        let data = buffer.map_readable()?.to_vec();
        let slice = first_slice(&data).ok_or("an access unit without a slice")?;
        units.push(AccessUnit { data, slice });
    }
    Ok(Clip { camera, units })
}

fn first_slice(data: &[u8]) -> Option<usize> {
    let code = data
        .windows(4)
        .position(|window| window[..3] == [0, 0, 1] && matches!(window[3] & 0x1f, 1 | 5))?;
    // A start code may have a fourth byte before it.
    Some(code - usize::from(code > 0 && data[code - 1] == 0))
}

pub(crate) fn child<T: IsA<gst::Element>>(
    bin: &impl IsA<gst::Bin>,
    name: &str,
) -> Result<T, String> {
    bin.by_name(name)
        .and_then(|element| element.downcast().ok())
        .ok_or_else(|| format!("no element {name}"))
}

/// I420: the number of the camera in its colour, a bar that walks, and the flash.
fn picture(camera: usize, frame: usize, format: Format) -> Vec<u8> {
    let Format { width, height, .. } = format;
    let (ground, ink) = if frame < FLASH_FRAMES as usize {
        (235, 16)
    } else {
        (48, 200)
    };
    let mut luma = vec![ground; width * height];
    let mut fill = |x: usize, y: usize, w: usize, h: usize| {
        for row in luma.chunks_mut(width).skip(y).take(h) {
            row.iter_mut().skip(x).take(w).for_each(|dot| *dot = ink);
        }
    };
    let dot = height / 10;
    for (place, digit) in format!("{camera:03}").bytes().enumerate() {
        for (row, bits) in DIGITS[usize::from(digit - b'0')].into_iter().enumerate() {
            for column in (0..3).filter(|column| bits >> (2 - column) & 1 == 1) {
                let x = dot + (place * 4 + column) * dot;
                fill(x, dot + row * dot, dot, dot);
            }
        }
    }
    fill(frame * width / FRAME_RATE, height - 2 * dot, dot, dot);
    if format.kbits.is_some() {
        add_grain(&mut luma, (camera * FRAME_RATE + frame) as u32);
    }
    let chroma = width.div_ceil(2) * height.div_ceil(2);
    let mut picture = luma;
    picture.resize(picture.len() + chroma, 64 + (camera * 37 % 128) as u8);
    picture.resize(picture.len() + chroma, 64 + (camera * 91 % 128) as u8);
    picture
}

/// The camera's number in a picture of any size, in which a dot has at least a few pixels: what [`picture`] drew, read back from
/// its luma. `None`: no number is there.
pub(crate) fn number_in(luma: &[u8], stride: usize, height: usize) -> Option<usize> {
    let dot = height / 10;
    let is_ink = |x: usize, y: usize| -> Option<bool> {
        let at = |x: usize, y: usize| luma.get(y * stride + x).copied();
        Some(at(x, y)?.abs_diff(at(dot / 2, dot / 2)?) > 80)
    };
    let mut number = 0;
    for place in 0..3 {
        let mut rows = [0; 5];
        for (row, bits) in rows.iter_mut().enumerate() {
            for column in 0..3 {
                let x = dot + (place * 4 + column) * dot + dot / 2;
                *bits = *bits << 1 | u8::from(is_ink(x, dot + row * dot + dot / 2)?);
            }
        }
        let digit = DIGITS.iter().position(|digit| *digit == rows)?;
        number = number * 10 + digit;
    }
    Some(number)
}

/// Noise that no encoder can predict, of another pattern in every picture.
fn add_grain(luma: &mut [u8], picture: u32) {
    let mut state = picture.wrapping_mul(0x9E37_79B9) | 1;
    for dot in luma {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *dot = dot.saturating_add_signed((state % (2 * GRAIN + 1)) as i8 - GRAIN as i8);
    }
}

/// How far the grain goes from the picture: seen as that of a camera in the dark, and more than the
/// encoder can pass over at 2 Mbit/s.
const GRAIN: u32 = 12;

/// Digits of 3 x 5 dots, a row in the low three bits.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];
