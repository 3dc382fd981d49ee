//! The contact sheet: a picture of every camera, taken from its recording, in one PNG.

use std::error::Error;
use std::path::Path;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

/// Width and height of one camera's picture; I420 without padding.
pub(crate) const TILE: (usize, usize) = (320, 180);

/// One picture of one camera: I420 of the size of a tile.
pub(crate) type Tile = Vec<u8>;

/// Writes the tiles row by row; a camera without a picture stays black.
pub(crate) fn write(tiles: &[Option<Tile>], file: &Path) -> Result<(), Box<dyn Error>> {
    let columns = columns(tiles.len());
    let rows = tiles.len().div_ceil(columns);
    let (width, height) = (columns * TILE.0, rows * TILE.1);
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=in caps=video/x-raw,format=I420,width={width},height={height},framerate=1/1 \
         ! videoconvert ! video/x-raw,format=RGB ! pngenc snapshot=true ! filesink name=out"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let named = |name| pipeline.by_name(name).ok_or("missing in the pipeline");
    named("out")?.set_property("location", file);
    let input = named("in")?
        .downcast::<gst_app::AppSrc>()
        .map_err(|_| "not an appsrc")?;
    pipeline.set_state(gst::State::Playing)?;
    input.push_buffer(gst::Buffer::from_mut_slice(compose(tiles, columns, rows)))?;
    input.end_of_stream()?;
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let end = pipeline
        .bus()
        .and_then(|bus| bus.timed_pop_filtered(gst::ClockTime::from_seconds(20), &ends));
    pipeline.set_state(gst::State::Null)?;
    match end.ok_or("the contact sheet was not finished")?.view() {
        gst::MessageView::Error(error) => Err(error.error().to_string().into()),
        _ => Ok(()),
    }
}

/// As wide as it is high, in tiles.
pub(crate) fn columns(tiles: usize) -> usize {
    (1..).find(|side| side * side >= tiles).unwrap_or(1)
}

fn compose(tiles: &[Option<Tile>], columns: usize, rows: usize) -> Vec<u8> {
    let (width, height) = TILE;
    let area = columns * rows * width * height;
    let mut sheet = vec![16; area];
    sheet.resize(area * 3 / 2, 128);
    // Where a plane begins in a tile and in the sheet, and by what its sides are divided.
    let planes = [
        (0, 0, 1),
        (width * height, area, 2),
        (width * height * 5 / 4, area * 5 / 4, 2),
    ];
    for (index, tile) in tiles.iter().enumerate() {
        let Some(tile) = tile else { continue };
        let (column, row) = (index % columns, index / columns);
        for (from, to, divisor) in planes {
            let (width, height) = (width / divisor, height / divisor);
            let stride = columns * width;
            for line in 0..height {
                let source = from + line * width;
                let target = to + (row * height + line) * stride + column * width;
                sheet[target..target + width].copy_from_slice(&tile[source..source + width]);
            }
        }
    }
    sheet
}
