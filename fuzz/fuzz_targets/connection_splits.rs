//! The same bytes in one read and in many give the same events and the same requests.
#![no_main]

#[path = "common.rs"]
mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, data) = input;
    let mut whole = common::Subject::new();
    whole.receive(data);

    let mut split = common::Subject::new();
    let mut rest = data;
    for cut in cuts {
        let Some((read, tail)) = rest.split_at_checked(usize::from(cut)) else {
            break;
        };
        split.receive(read);
        rest = tail;
    }
    split.receive(rest);

    assert_eq!(whole.into_trace(), split.into_trace());
});
