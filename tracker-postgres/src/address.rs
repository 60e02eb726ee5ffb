//! The configured address as the driver's options: also in the form of JDBC, and never without TLS by accident.

use std::{net::IpAddr, str::FromStr};

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};
use tracker_api::{Error, ErrorKind, Result};

use crate::config::Config;

/// The parameters of a URL that the driver reads and that cannot undo what we set.
const KNOWN: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
    "ssl-mode",
];

pub(crate) fn options(config: &Config) -> Result<PgConnectOptions> {
    let wrong = |problem: &str| Error::new(ErrorKind::Config, format!("postgres.url {problem}"));
    let url = config.url.expose();
    if url.trim().is_empty() {
        return Err(wrong(
            "is not set: write postgres://user@host:5432/database, and the password into postgres.password",
        ));
    }
    let (url, told) = readable(url.trim());
    if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
        return Err(wrong(&format!(
            "is {}, but must begin with postgres://, postgresql:// or jdbc:postgresql://",
            config.url
        )));
    }
    let mut options = PgConnectOptions::from_str(&url).map_err(|_| {
        wrong(&format!(
            "cannot be read ({}): one host, its port, and what is special in a password percent-encoded or the password in \
             postgres.password",
            config.url
        ))
    })?;
    if let Some(username) = &config.username {
        options = options.username(username);
    }
    if !config.password.expose().is_empty() {
        options = options.password(config.password.expose());
    }
    if let Some(file) = &config.tls_ca_file {
        // The driver would not say which file it misses.
        std::fs::File::open(file).map_err(|error| {
            let message = format!("postgres.tls-ca-file: {}: {error}", file.display());
            Error::new(ErrorKind::Config, message)
        })?;
        options = options.ssl_root_cert(file);
    }
    let encrypted = matches!(
        options.get_ssl_mode(),
        PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
    );
    if !is_here(&options) && !encrypted && !config.allow_plaintext {
        if told {
            return Err(wrong(&format!(
                "asks for a connection to {} that may be without TLS: write sslmode=verify-full, or set postgres.allow-plaintext: true",
                options.get_host()
            )));
        }
        options = options.ssl_mode(PgSslMode::VerifyFull);
    }
    if options.get_application_name().is_none() {
        options = options.application_name("orders-orchestrator");
    }
    // While connecting, only what every pooler lets pass: what the promises stand on is set afterwards, see `session`. (Nothing
    // that is stored is a floating-point number.)
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

/// The URL without what belongs to JDBC or to nobody, and whether it says how TLS is used.
fn readable(url: &str) -> (String, bool) {
    let url = url.strip_prefix("jdbc:").unwrap_or(url);
    let Some((place, query)) = url.split_once('?') else {
        return (url.to_owned(), false);
    };
    let mut kept = Vec::new();
    let mut told = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "ssl" if value != "false" => kept.push("sslmode=verify-full".to_owned()),
            "ssl" => kept.push("sslmode=disable".to_owned()),
            "ApplicationName" => kept.push(format!("application_name={value}")),
            name if KNOWN.contains(&name) => kept.push(pair.to_owned()),
            _ => tracing::warn!(
                parameter = name,
                "postgres.url holds a parameter that is not read here; it is left out"
            ),
        }
        told |= matches!(name, "ssl" | "sslmode" | "ssl-mode");
    }
    if kept.is_empty() {
        (place.to_owned(), told)
    } else {
        // The last one counts, and what is said in words goes before JDBC's `ssl`.
        kept.sort_by_key(|pair| !pair.starts_with("sslmode=") || query.contains(pair.as_str()));
        (format!("{place}?{}", kept.join("&")), told)
    }
}

/// Whether the server is on this machine, so that nobody stands between.
fn is_here(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use tracker_api::{Secret, SecretUrl};

    use super::*;

    fn of(url: &str) -> Result<PgConnectOptions> {
        options(&Config {
            url: SecretUrl::new(url),
            ..Config::default()
        })
    }

    #[test]
    fn an_address_of_jdbc_is_read_and_what_is_only_jdbcs_is_left_out() {
        let config = Config {
            url: SecretUrl::new(
                "jdbc:postgresql://db.example:6432/orders?user=eve&reWriteBatchedInserts=true&ApplicationName=app&ssl=true&stringtype=x",
            ),
            username: Some("ada".into()),
            password: Secret::new("p@ss/word"),
            ..Config::default()
        };
        let read = options(&config).unwrap();
        assert_eq!((read.get_host(), read.get_port()), ("db.example", 6432));
        assert_eq!(
            (read.get_database(), read.get_username()),
            (Some("orders"), "ada")
        );
        assert_eq!(read.get_application_name(), Some("app"));
        assert!(matches!(read.get_ssl_mode(), PgSslMode::VerifyFull));
        // The user of the URL counts where no other is configured.
        assert_eq!(
            of("jdbc:postgresql://localhost/orders?user=eve")
                .unwrap()
                .get_username(),
            "eve"
        );
        // A mode in words goes before `ssl=true`, wherever it stands.
        for url in [
            "jdbc:postgresql://db/o?ssl=true&sslmode=require",
            "jdbc:postgresql://db/o?sslmode=require&ssl=true",
        ] {
            assert!(
                matches!(of(url).unwrap().get_ssl_mode(), PgSslMode::Require),
                "{url}"
            );
        }
    }

    #[test]
    fn another_host_is_spoken_to_with_tls_unless_somebody_said_otherwise() {
        for here in ["127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgresql"] {
            let read = of(&format!("postgres://{here}/orders")).unwrap();
            assert!(!matches!(read.get_ssl_mode(), PgSslMode::VerifyFull), "{here}");
        }
        assert!(matches!(
            of("postgres://db/orders").unwrap().get_ssl_mode(),
            PgSslMode::VerifyFull
        ));
        assert!(matches!(
            of("postgres://db/orders?sslmode=require").unwrap().get_ssl_mode(),
            PgSslMode::Require
        ));
        for plain in ["disable", "allow", "prefer"] {
            let url = format!("postgres://ada:hunter2@db/orders?sslmode={plain}");
            let error = of(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(
                text.contains("verify-full") && text.contains("allow-plaintext"),
                "{text}"
            );
            let config = Config {
                url: SecretUrl::new(url),
                allow_plaintext: true,
                ..Config::default()
            };
            assert!(options(&config).is_ok());
        }
    }

    #[test]
    fn an_address_that_cannot_be_read_is_said_without_its_password() {
        for (url, says) in [
            ("", "is not set"),
            ("mysql://ada:hunter2@db/orders", "must begin with"),
            ("hunter2", "must begin with"),
            ("postgres://ada:hunter2@db:one/orders", "cannot be read"),
            ("postgres://ada:hunter2@a:1,b:2/orders", "cannot be read"),
            (
                "postgres://ada:hunter2@db/orders?sslmode=hunter2",
                "cannot be read",
            ),
        ] {
            let error = of(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            let text = format!("{error} {error:?}");
            assert!(text.contains(says), "{text}");
            assert!(!text.contains("hunter2") || url.ends_with("=hunter2"), "{text}");
        }
    }
}
