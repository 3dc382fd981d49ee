//! Reading and replacing the state file, whatever stands in its place.
//!
//! Another user may have put something there: a FIFO, which blocks the thread that opens it; a link
//! to a file of the user, which would be overwritten; a file too large for the memory. And the user
//! may have named another file of theirs by mistake. None of them is followed, read whole, or written
//! over.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::mux::clock;

/// Largest file that is read or written. A camera takes about 1 KiB: this is room for 16 000.
pub(super) const MAX_SIZE: usize = 16 * 1024 * 1024;
/// What every version of the file begins with.
pub(super) const MAGIC: &str = "rtspmux-state ";

/// Temporary files of ours: `.rtspmux-<32 hexadecimal digits>.new`.
const TEMPORARY_PREFIX: &str = ".rtspmux-";
const TEMPORARY_SUFFIX: &str = ".new";
/// A process that was killed while it wrote leaves its temporary file behind. One that is so old is
/// not being written any more.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(60 * 60);
/// How many entries of the directory are searched for such files.
const MAX_ENTRIES: usize = 4096;

/// Tells whether another process has replaced or changed the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }
}

/// A state file that is there and may be read and replaced.
#[derive(Debug)]
pub(super) struct Existing {
    file: File,
    head: Vec<u8>,
    pub(super) identity: Identity,
}

impl Existing {
    /// None if nothing is there.
    ///
    /// # Errors
    ///
    /// What is there cannot be opened, is no regular file, or does not begin as a state file does.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match fs::symlink_metadata(path).and_then(|metadata| {
            check_kind(&metadata)?;
            open(path)
        }) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        // Again: what is at the path may have been exchanged since.
        let metadata = file.metadata()?;
        check_kind(&metadata)?;
        let mut head = Vec::new();
        (&file).take(MAGIC.len() as u64).read_to_end(&mut head)?;
        // An empty file is what a power failure or `touch` leaves.
        if !head.is_empty() && head != MAGIC.as_bytes() {
            return Err(refusal("it holds something else"));
        }
        let identity = Identity::of(&metadata);
        Ok(Some(Self {
            file,
            head,
            identity,
        }))
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// It is larger than [`MAX_SIZE`], or cannot be read.
    pub(super) fn text(self) -> io::Result<String> {
        let mut bytes = self.head;
        // It may grow while it is read.
        self.file
            .take((MAX_SIZE + 1 - bytes.len()) as u64)
            .read_to_end(&mut bytes)?;
        if bytes.len() > MAX_SIZE {
            return Err(refusal("it is larger than 16 MiB"));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn refusal(what: &'static str) -> io::Error {
    io::Error::other(what)
}

fn check_kind(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        Err(refusal("it is a symbolic link, which is not followed"))
    } else if !kind.is_file() {
        Err(refusal("it is no regular file"))
    } else {
        Ok(())
    }
}

/// Neither waits for the other end of a FIFO nor follows a link.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;

        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

/// Keeps the other processes and pools that use the same file from reading it for their own writing until
/// it is dropped: what one of two had added between the other's reading and its writing would be lost.
/// Waits for them. It is a lock on the directory, because the file is replaced. None where the system has no
/// such locks, or the directory cannot be read.
pub(super) fn lock(path: &Path) -> Option<File> {
    let directory = File::open(directory_of(path)).ok()?;
    directory.lock().ok()?;
    Some(directory)
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Puts a file with this text in place of `path`. A process that reads it meanwhile finds the old one
/// or the new one, whole; of several processes that replace it the last one wins.
///
/// # Errors
///
/// What is there is not to be replaced ([`Existing::open`]), or the disk says no.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<Identity> {
    Existing::open(path)?;
    let (temporary, mut file) = create_beside(path)?;
    let written = file
        .write_all(text.as_bytes())
        // A power failure must not leave an empty file behind.
        .and_then(|()| file.sync_data())
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| file.metadata());
    match written {
        Ok(metadata) => Ok(Identity::of(&metadata)),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// A new file in the directory of `path`, which only its owner may read, since it names the owner's
/// cameras. Its name cannot be guessed, and what has that name is not opened.
fn create_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let number = clock::random_seed();
    let name = format!("{TEMPORARY_PREFIX}{number:032x}{TEMPORARY_SUFFIX}");
    let temporary = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&temporary)?;
    Ok((temporary, file))
}

/// Removes what killed processes have left in the directory of `path`.
pub(super) fn remove_left_overs(path: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(directory_of(path)) else {
        return;
    };
    for entry in entries.take(MAX_ENTRIES).filter_map(Result::ok) {
        let is_ours = entry.file_name().to_str().is_some_and(is_temporary);
        if is_ours && entry.metadata().is_ok_and(|it| is_left_over(&it, now)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_temporary(name: &str) -> bool {
    name.strip_prefix(TEMPORARY_PREFIX)
        .and_then(|name| name.strip_suffix(TEMPORARY_SUFFIX))
        .is_some_and(|number| number.len() == 32 && number.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Entries of a directory are not followed if they are links.
fn is_left_over(metadata: &Metadata, now: SystemTime) -> bool {
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| now.duration_since(modified).ok());
    metadata.is_file() && age.is_some_and(|age| age >= LEFT_OVER_AFTER)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    };

    use super::*;

    /// A directory of its own, removed at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let name = format!("rtspmux-disk-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("state")
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
            let mut names: Vec<_> = entries.map(name).collect();
            names.sort();
            let names = names.into_iter();
            names.map(|name| name.into_string().unwrap()).collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn read(path: &Path) -> io::Result<Option<String>> {
        Existing::open(path)?.map(Existing::text).transpose()
    }

    #[test]
    fn what_is_written_is_read_back_and_is_its_owners() {
        let place = Place::new("written");
        let path = place.file();
        assert_eq!(read(&path).unwrap(), None);
        for text in ["rtspmux-state 4\none\n", "rtspmux-state 4\n"] {
            let identity = replace(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(text));
            assert_eq!(Existing::open(&path).unwrap().unwrap().identity, identity);
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(place.names(), ["state"]);
    }

    /// Opening a FIFO as one does waits until something opens its other end.
    #[test]
    fn f48_what_is_no_regular_file_is_neither_read_nor_replaced() {
        let place = Place::new("kinds");
        let path = place.file();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_refused(&path, "no regular file");
        fs::remove_file(&path).unwrap();
        let _socket = UnixListener::bind(&path).unwrap();
        assert_refused(&path, "no regular file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_refused(&path, "no regular file");
        assert_refused(Path::new("/dev/zero"), "no regular file");
        assert_eq!(place.names(), ["state"]);
    }

    #[test]
    fn f48_a_link_is_refused_and_its_target_left_alone() {
        let place = Place::new("link");
        let (path, target) = (place.file(), place.0.join("target"));
        for text in ["rtspmux-state 4\n", "precious"] {
            fs::write(&target, text).unwrap();
            symlink(&target, &path).unwrap();
            assert_refused(&path, "symbolic link");
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
            fs::remove_file(&path).unwrap();
        }
        symlink(place.0.join("nowhere"), &path).unwrap();
        assert_refused(&path, "symbolic link");
    }

    fn assert_refused(path: &Path, why: &str) {
        let read = Existing::open(path).unwrap_err().to_string();
        assert!(read.contains(why), "{read}");
        let written = replace(path, "rtspmux-state 4\n").unwrap_err().to_string();
        assert!(written.contains(why), "{written}");
    }

    #[test]
    fn f48_a_file_of_something_else_is_not_written_over() {
        let place = Place::new("foreign");
        let path = place.file();
        for text in ["[cameras]\n", "rtspmux", "\0"] {
            fs::write(&path, text).unwrap();
            assert_refused(&path, "something else");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        for ours in ["", "rtspmux-state 1\n"] {
            fs::write(&path, ours).unwrap();
            replace(&path, "rtspmux-state 4\n").unwrap();
        }
    }

    /// A sparse one: on the disk it takes nothing.
    #[test]
    fn f48_a_file_of_300_megabytes_is_not_read_and_may_be_replaced() {
        let place = Place::new("large");
        let path = place.file();
        fs::write(&path, "rtspmux-state 4\n").unwrap();
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        file.set_len(300_000_000).unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("16 MiB"), "{error}");
        replace(&path, "rtspmux-state 4\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 16);
    }

    #[test]
    fn f48_what_is_planted_under_a_temporary_name_is_left_alone() {
        let place = Place::new("planted");
        let target = place.0.join("target");
        fs::write(&target, "precious").unwrap();
        let old = format!("state.{}.new", std::process::id());
        symlink(&target, place.0.join(&old)).unwrap();
        replace(&place.file(), "rtspmux-state 4\n").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(place.names(), ["state", &old, "target"]);
    }

    #[test]
    fn f48_temporary_files_of_killed_processes_are_removed_after_an_hour() {
        let place = Place::new("left");
        let temporary = format!(".rtspmux-{:032x}.new", 7);
        let driver = format!(".rtspmux-{:032x}.new", 8);
        for name in [&temporary, "state.12.new", ".rtspmux-7.new"] {
            fs::write(place.0.join(name), "").unwrap();
        }
        symlink(place.0.join("state.12.new"), place.0.join(&driver)).unwrap();
        let now = SystemTime::now();
        remove_left_overs(&place.file(), now);
        assert_eq!(place.names().len(), 4);
        remove_left_overs(
            &place.file(),
            now + LEFT_OVER_AFTER + Duration::from_secs(60),
        );
        assert_eq!(place.names(), [&driver, ".rtspmux-7.new", "state.12.new"]);
    }
}
