//! Keys and seeds: the one place where the operating system's randomness comes in, and key files.
//!
//! A key file is one line of text, `dunlin-secret-key-v1:` and the 32-byte Ed25519 secret key (the seed
//! of RFC 8032) in lower-case base32 without padding, 52 characters. Whoever reads it can be this node,
//! so it is readable by its owner alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use dunlin_core::Identity;

/// How a key file begins.
pub const PREFIX: &str = "dunlin-secret-key-v1:";

/// A key file is 74 bytes long; whatever is much longer is something else.
const FILE_BYTES_MAX: u64 = 1_024;

/// Why a key file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is one already.
    #[error("{} exists already; whoever overwrites it loses that identity for good", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("there is no key file {}; make one with `dunlin id new --out {}`", .0.display(), .0.display())]
    Missing(PathBuf),
    /// Others may read it.
    #[error(
        "the key file {} may be read by others (mode {mode:o}); forbid it with `chmod 600 {}`",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is something else.
    #[error(
        "{} is not a key file: {why}. A key file is one line that begins with '{PREFIX}', as \
         `dunlin id new` writes it", path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong; never what it contains.
        why: &'static str,
    },
    /// The operating system refuses.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With this file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// 32 bytes from the operating system.
///
/// # Panics
///
/// When the operating system has no randomness to give; nothing is safe then.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A fresh identity that nobody else has.
pub fn generate() -> Identity {
    Identity::from_secret(random())
}

/// Makes a fresh identity and keeps it in a new file, readable by its owner alone. The file is there
/// whole or not at all. Folders on the way are made too.
///
/// # Errors
///
/// [`KeyError::Exists`] unless `overwrite`, and what the operating system refuses.
pub fn create(path: &Path, overwrite: bool) -> Result<Identity, KeyError> {
    let identity = generate();
    save(path, &identity, overwrite)?;
    Ok(identity)
}

/// Keeps an identity in a file; see [`create`].
///
/// # Errors
///
/// As [`create`].
pub fn save(path: &Path, identity: &Identity, overwrite: bool) -> Result<(), KeyError> {
    let failed = |what, path: &Path| {
        let path = path.to_path_buf();
        move |source| KeyError::Io { what, path, source }
    };
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(KeyError::Exists(path.to_path_buf()));
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed("make the folder", folder))?;
    let mut suffix = data_encoding::HEXLOWER.encode(&random()[..8]);
    suffix.insert_str(0, ".dunlin-key-");
    let draft = folder.join(suffix);
    let written = write_private(&draft, identity)
        .map_err(failed("write", &draft))
        .and_then(|()| publish(&draft, path, overwrite));
    if written.is_err() {
        let _ = std::fs::remove_file(&draft);
    }
    written?;
    // The name must survive a crash, too. Not every system lets a folder be synced.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write_private(path: &Path, identity: &Identity) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    let secret = BASE32_NOPAD.encode(identity.secret()).to_ascii_lowercase();
    file.write_all(format!("{PREFIX}{secret}\n").as_bytes())?;
    file.sync_all()
}

/// Gives the draft its name.
fn publish(draft: &Path, path: &Path, overwrite: bool) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { what: "write", path: path.to_path_buf(), source };
    if overwrite {
        return std::fs::rename(draft, path).map_err(failed);
    }
    // Unlike a rename, a second name replaces nothing, even if a file has appeared meanwhile.
    match std::fs::hard_link(draft, path) {
        Ok(()) => std::fs::remove_file(draft).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyError::Exists(path.to_path_buf()))
        }
        // Some file systems know no second names.
        Err(_) => std::fs::rename(draft, path).map_err(failed),
    }
}

/// Reads a key file.
///
/// # Errors
///
/// When there is none, when others may read it, or when it is something else.
pub fn load(path: &Path) -> Result<Identity, KeyError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(path.to_path_buf()),
        _ => KeyError::Io { what: "read the key file", path: path.to_path_buf(), source },
    };
    let format = |why| KeyError::Format { path: path.to_path_buf(), why };
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(format("it is not a regular file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = about.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_path_buf(), mode });
        }
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    let text = std::str::from_utf8(&text).map_err(|_| format("it is not text"))?;
    let secret =
        text.trim_end().strip_prefix(PREFIX).ok_or_else(|| format("it does not begin so"))?;
    let secret = BASE32_NOPAD
        .decode(secret.to_ascii_uppercase().as_bytes())
        .map_err(|_| format("the key is not base32"))?;
    let secret = secret.try_into().map_err(|_| format("the key is not 32 bytes long"))?;
    Ok(Identity::from_secret(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/id.key");
        let made = create(&path, false).unwrap();
        assert_eq!(load(&path).unwrap().id(), made.id());
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no draft is left"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_key_is_overwritten_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.key");
        let first = create(&path, false).unwrap();
        assert!(matches!(create(&path, false), Err(KeyError::Exists(_))));
        assert_eq!(load(&path).unwrap().id(), first.id());
        let second = create(&path, true).unwrap();
        assert_ne!(second.id(), first.id());
        assert_eq!(load(&path).unwrap().id(), second.id());
    }

    #[test]
    fn what_is_no_key_file_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.key");
        assert!(matches!(load(&path), Err(KeyError::Missing(_))));
        create(&path, false).unwrap();
        for (content, why) in [
            (b"hunter2".to_vec(), "begin"),
            (format!("{PREFIX}hunter2").into_bytes(), "base32"),
            (format!("{PREFIX}aeaqcaib").into_bytes(), "32 bytes"),
            (vec![0xff; 80], "text"),
            (Vec::new(), "begin"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
        assert!(load(folder.path()).unwrap_err().to_string().contains("regular file"));
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.key");
        create(&path, false).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
    }
}
