//! The least a client must do: one connection on which it reads and slices, and looks at nothing.

use std::{hint::black_box, time::Instant};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
};

use super::{Task, allocations::allocations, library, usage};
use crate::{Outcome, arguments::Arguments, rtsp::Request};

/// As the library's receive buffer.
const CHUNK: usize = 64 * 1024;
const LOW: usize = 16 * 1024;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let task = Task::new(arguments)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(play(&task))
}

async fn play(task: &Task) -> Outcome {
    let mut client = Client {
        socket: TcpStream::connect(("127.0.0.1", task.port)).await?,
        buffer: BytesMut::new(),
        bytes: 0,
        packets: 0,
    };
    client.socket.set_nodelay(true)?;
    let mut ids = Vec::new();
    for stream in 0..task.streams {
        let transport = format!(
            "RTP/AVP/TCP;unicast;interleaved={}-{}",
            2 * stream,
            2 * stream + 1
        );
        let request = Request::new("SETUP", &format!("{}/video", task.url(stream)));
        let head = client.ask(request.header("Transport", transport)).await?;
        let id = head.split("Session: ").nth(1).ok_or("no session")?;
        ids.push(id.split([';', '\r']).next().unwrap_or(id).to_owned());
    }
    for (stream, id) in ids.into_iter().enumerate() {
        let request = Request::new("PLAY", &task.url(stream)).header("Session", id);
        client.ask(request).await?;
    }
    client.read_for(task.warm_up).await?;
    let (before, cpu) = (Instant::now(), usage::cpu_time());
    let (bytes, packets) = (client.bytes, client.packets);
    let allocated = allocations();
    client.read_for(task.window).await?;
    let cpu = (usage::cpu_time() - cpu).as_secs_f64();
    let seconds = before.elapsed().as_secs_f64();
    library::print(seconds, cpu, client.bytes - bytes, client.packets - packets);
    library::print_allocations(allocated, client.packets - packets);
    Ok(())
}

struct Client {
    socket: TcpStream,
    buffer: BytesMut,
    bytes: u64,
    packets: u64,
}

impl Client {
    /// The head of the answer. Media before it is sliced and counted.
    async fn ask(&mut self, request: Request) -> Outcome<String> {
        let request = request.header("CSeq", "1");
        self.socket.write_all(&request.to_bytes()).await?;
        loop {
            self.slice();
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end.filter(|_| self.buffer.first() != Some(&b'$')) {
                let head = self.buffer.split_to(end + 4);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.read().await?;
        }
    }

    async fn read_for(&mut self, time: std::time::Duration) -> Outcome {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.read().await?;
            self.slice();
        }
        Ok(())
    }

    async fn read(&mut self) -> Outcome {
        if self.buffer.capacity() - self.buffer.len() < LOW {
            self.buffer.reserve(CHUNK);
        }
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err("the server has gone".into()),
            _ => Ok(()),
        }
    }

    /// Takes the frames that are complete.
    fn slice(&mut self) {
        while let Some(&[b'$', _, high, low]) = self.buffer.first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if self.buffer.len() < 4 + length {
                break;
            }
            self.buffer.advance(4);
            black_box(self.buffer.split_to(length).freeze());
            self.bytes += length as u64;
            self.packets += 1;
        }
    }
}
