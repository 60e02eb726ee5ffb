use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use crate::programs;

/// A certificate authority of the test's own: what it signs is trusted by whoever is told of it, and by nobody else.
#[derive(Debug)]
pub struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// Makes one, and has it sign a certificate for the servers of this machine and one for their clients. An error says what
    /// `openssl` said.
    pub fn new() -> Result<Self, String> {
        // A server that runs as another user reads its certificate here.
        let folder = tempfile::Builder::new()
            .prefix("orders-authority-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .map_err(|error| format!("no temporary folder: {error}"))?;
        let authority = Self { folder };
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        let names = authority.file("names");
        fs::write(&names, "subjectAltName=IP:127.0.0.1,DNS:localhost")
            .map_err(|error| programs::at(&names, &error))?;
        authority.openssl(&format!(
            "req -x509 {new} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"
        ))?;
        for role in ["server", "client"] {
            authority.openssl(&format!(
                "req {new} -keyout {role}.key -out {role}.csr -subj /CN={role}"
            ))?;
            authority.openssl(&format!(
                "x509 -req -in {role}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {role}.crt"
            ))?;
            // MongoDB wants both in one file.
            let read = |end: &str| {
                let file = authority.file(&format!("{role}.{end}"));
                fs::read(&file).map_err(|error| programs::at(&file, &error))
            };
            let both = authority.file(&format!("{role}.pem"));
            fs::write(&both, [read("crt")?, read("key")?].concat())
                .map_err(|error| programs::at(&both, &error))?;
        }
        programs::give(&authority.file("server.key"))?;
        Ok(authority)
    }

    /// Its own certificate, which says whom to trust.
    pub fn certificate(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// A file of its folder: `server` or `client`, and then `.crt`, `.key`, or `.pem` for both in one.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn openssl(&self, words: &str) -> Result<(), String> {
        let mut openssl = Command::new("openssl");
        openssl
            .args(words.split_whitespace())
            .current_dir(self.folder.path());
        let done = openssl.output().map_err(|error| {
            format!("the program `openssl` (Debian's package of that name) makes the certificates: {error}")
        })?;
        match done.status.success() {
            true => Ok(()),
            false => Err(format!(
                "openssl {words}: {}",
                String::from_utf8_lossy(&done.stderr)
            )),
        }
    }
}
