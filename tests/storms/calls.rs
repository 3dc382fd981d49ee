//! The dials and the name lookups of this process, counted where they reach the system. No server sees a
//! dial that is refused, dropped or never begun for want of an address.
//!
//! `connect` and `getaddrinfo` are defined here, so the linker takes these for those of the C library.
#![allow(unsafe_code, reason = "two functions of the C library are replaced")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names that end so have no address but what [`resolve`] gives them, whatever the system's resolver says.
pub(crate) const DOMAIN: &str = ".storm.invalid";

static CALLS: Mutex<Calls> = Mutex::new(Calls {
    dials: BTreeMap::new(),
    lookups: BTreeMap::new(),
    names: Vec::new(),
});

struct Calls {
    /// By port, on any IPv4 address.
    dials: BTreeMap<u16, usize>,
    /// By name, of those in [`DOMAIN`].
    lookups: BTreeMap<String, usize>,
    /// Those that have an address.
    names: Vec<String>,
}

fn calls() -> MutexGuard<'static, Calls> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often this port was dialled so far.
pub(crate) fn dials(port: u16) -> usize {
    calls().dials.get(&port).copied().unwrap_or_default()
}

/// How often this name was looked up so far.
pub(crate) fn lookups(name: &str) -> usize {
    calls().lookups.get(name).copied().unwrap_or_default()
}

/// From now on this name leads to 127.0.0.1.
pub(crate) fn resolve(name: &str) {
    calls().names.push(name.to_owned());
}

/// From now on there is no such name.
pub(crate) fn forget(name: &str) {
    calls().names.retain(|known| known != name);
}

/// Takes the place of connect(2).
#[unsafe(no_mangle)]
unsafe extern "C" fn connect(
    socket: c_int,
    address: *const libc::sockaddr,
    length: libc::socklen_t,
) -> c_int {
    // SAFETY: the caller passes an address of that length, as connect(2) demands.
    if unsafe { (*address).sa_family } == libc::AF_INET as libc::sa_family_t {
        // SAFETY: an address of that family is a `sockaddr_in`.
        let port = u16::from_be(unsafe { (*address.cast::<libc::sockaddr_in>()).sin_port });
        *calls().dials.entry(port).or_default() += 1;
    }
    // SAFETY: the system call that the function of the C library makes, with its arguments.
    unsafe { libc::syscall(libc::SYS_connect, socket, address, length) as c_int }
}

type Lookup = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const libc::addrinfo,
    *mut *mut libc::addrinfo,
) -> c_int;

/// Takes the place of getaddrinfo(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    result: *mut *mut libc::addrinfo,
) -> c_int {
    let mut name = node;
    // SAFETY: the caller passes a string or null, as getaddrinfo(3) demands.
    let text = (!node.is_null()).then(|| unsafe { CStr::from_ptr(node) }.to_string_lossy());
    if let Some(text) = text.filter(|text| text.ends_with(DOMAIN)) {
        let mut calls = calls();
        *calls.lookups.entry(text.to_string()).or_default() += 1;
        if !calls.names.iter().any(|known| *known == text) {
            return libc::EAI_NONAME;
        }
        name = c"127.0.0.1".as_ptr();
    }
    // SAFETY: the next definition of the symbol is that of the C library.
    let lookup = unsafe { libc::dlsym(libc::RTLD_NEXT, c"getaddrinfo".as_ptr()) };
    assert!(!lookup.is_null(), "the C library has it");
    // SAFETY: it has this type, and gets the arguments of the caller.
    unsafe {
        let lookup = std::mem::transmute::<*mut libc::c_void, Lookup>(lookup);
        lookup(name, service, hints, result)
    }
}
