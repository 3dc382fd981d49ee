//! Servers that send the packets of another camera than was asked for, and what reaches the sessions.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gstrtspmux::mux::network::Network;
use gstrtspmux::mux::{Multiplex, Mux, PacketKind, SessionOptions};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::executor::Executor;
use crate::network::{Event, Fault, Millis, Net, Weather};
use crate::run::{simulate, wait};
use crate::schedule::stamp;
use crate::server::Server;
use crate::support::mock_server::{Family, MockServer, Reaction, Rule};
use crate::support::random::Random;
use crate::viewers::Viewers;

/// When the connection of both cameras dies.
const DIES: Millis = 5_000;

/// live555 before 2017.06.04: the packets of sessions whose connection has died go to the next connection.
/// The second camera is set up and does not play yet when the connection dies. It is set up again on the
/// next connection, where it is not described, on the channels on which the first one played.
#[test]
fn strays_are_told_apart_where_a_session_is_set_up_on_another_connection_than_it_was_described_on()
{
    simulate(async {
        let net = Net::new(Random::new(1), Weather::Calm, false);
        {
            let mut world = net.world();
            let builder = MockServer::builder().cameras(2).family(Family::LiveOld);
            let mut server = Server::new("nvr", builder.engine("nvr"), Family::LiveOld, 60);
            server.media_every = 200;
            world.servers = vec![server];
            world.at(DIES, Event::Fault(Fault::Kill(0, 200, false)));
        }
        let network: Arc<dyn Network> = Arc::clone(&net) as Arc<dyn Network>;
        let mux = Mux::builder().runtime(Handle::current()).network(network);
        let mux = mux.build();
        let options =
            |camera| SessionOptions::new(&format!("rtsp://nvr/cam/{camera}")).expect("a URL");
        let openings = mux.open_many(vec![options(1), options(2)]);
        let [first, second] = openings.try_into().expect("two");
        let mut executor = Executor::new(2);
        executor.spawn(0, async move {
            let set_up = first.describe().await.expect("described").setup_all();
            let mut session = set_up.await.expect("set up").play().await.expect("plays");
            let listen = async { while session.next().await.is_some() {} };
            let _ = timeout(Duration::from_millis(DIES), listen).await;
        });
        let cameras: Rc<RefCell<Vec<Option<u32>>>> = Rc::default();
        let heard = Rc::clone(&cameras);
        executor.spawn(1, async move {
            let set_up = second.describe().await.expect("described").setup_all();
            let ready = set_up.await.expect("set up");
            sleep(Duration::from_millis(DIES + 1_000)).await;
            let mut session = ready.play().await.expect("plays");
            let listen = async {
                while let Some(packet) = session.next().await {
                    if packet.kind == PacketKind::Rtp {
                        let camera = stamp(&packet.payload).map(|(camera, _)| camera);
                        heard.borrow_mut().push(camera);
                    }
                }
            };
            let _ = timeout(Duration::from_secs(5), listen).await;
        });
        loop {
            net.world().proceed();
            executor.poll_woken();
            if executor.is_empty() {
                break;
            }
            wait(&net, &executor, None).await;
        }
        let cameras = cameras.borrow();
        assert!(cameras.len() > 20, "{} packets", cameras.len());
        assert!(
            cameras.iter().all(|camera| *camera == Some(2)),
            "{cameras:?}"
        );
    });
}

/// ZLMediaKit stays with the first camera that it has described on a connection, here the second one that it
/// was asked for. The first one comes back to that connection. Each viewer checks that it gets no packet of
/// another camera.
#[test]
fn a_camera_that_was_refused_at_first_is_not_shown_the_one_that_was_described_instead() {
    simulate(async {
        let net = Net::new(Random::new(1), Weather::Calm, false);
        {
            let refusal = Rule::new("DESCRIBE", Reaction::status(451));
            let builder = MockServer::builder().cameras(2).family(Family::ZlMediaKit);
            let builder = builder.rule(refusal.camera("/cam/1").times(1));
            let mut world = net.world();
            let server = Server::new("nvr", builder.engine("nvr"), Family::ZlMediaKit, 20);
            world.servers = vec![server];
        }
        let mut viewers = Viewers::new(&net, 2, 2 * DIES);
        for camera in 1..=2 {
            let options = SessionOptions::new(&format!("rtsp://nvr/cam/{camera}"));
            let mut options = options.expect("a URL");
            options.pooling.multiplex = Multiplex::Always;
            viewers.enter(0, options);
        }
        loop {
            net.world().proceed();
            viewers.executor.poll_woken();
            if viewers.executor.is_empty() {
                break;
            }
            wait(&net, &viewers.executor, None).await;
        }
        for seen in viewers.all_seen() {
            assert!(seen.len() > 5, "{seen:?}");
        }
    });
}
