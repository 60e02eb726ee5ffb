use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// By which names the management listener lets itself be called.
///
/// A page in somebody's browser may make a name of its own point to our address and read the answers. It cannot choose the
/// host of its requests: that is its own name, with a public domain. So what no public domain can be is answered: IP
/// addresses (probes use the pod's), `localhost`, names of one part (`orders`), names that only a cluster or a private
/// network resolves (`….svc`, `….cluster.local`, `….internal`); and the names that are configured.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// `names` besides those that are always answered.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| plain(name)).collect())
    }

    /// Whether a request for `host`, with a port or without, is answered.
    fn answers(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|c| c.is_ascii_digit()) => name,
            _ => host,
        };
        let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        if let Some(address) = bracketed {
            return address.parse::<std::net::Ipv6Addr>().is_ok();
        }
        let name = plain(name);
        let private = [".localhost", ".svc", ".cluster.local", ".internal"];
        !name.is_empty()
            && (name.parse::<IpAddr>().is_ok()
                || !name.contains('.')
                || private.iter().any(|end| name.ends_with(end))
                || self.0.contains(&name))
    }
}

/// As names are compared: without case, and without the dot that may end one.
fn plain(name: &str) -> String {
    name.trim().trim_end_matches('.').to_ascii_lowercase()
}

/// Refuses what is meant for another host. A request without a host is no browser's, and is answered.
pub(super) async fn check(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let named = request.headers().get_all(header::HOST).into_iter();
    let named = named.map(|host| host.to_str().unwrap_or("?.?"));
    let whole = request.uri().authority().map(|authority| authority.as_str());
    if named.chain(whole).all(|host| hosts.answers(host)) {
        return next.run(request).await;
    }
    let why = "this host name is not answered here; `management-hosts` adds one\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

#[cfg(test)]
mod tests {
    use super::Hosts;

    #[test]
    fn only_names_that_cannot_be_a_strangers_are_answered_and_those_that_are_configured() {
        let hosts = Hosts::new(&["Metrics.Example.org".into()]);
        for host in [
            "10.1.2.3:8080",
            "10.1.2.3",
            "[fd00::1]:8080",
            "[::1]",
            "localhost:8080",
            "orders",
            "orders.default.svc:8080",
            "orders.default.svc.cluster.local.",
            "host.docker.internal",
            "metrics.example.org:8080",
        ] {
            assert!(hosts.answers(host), "{host}");
        }
        for host in [
            "evil.example:8080",
            "metrics.example.org.evil.example",
            "localhost.evil.example",
            "10.1.2.3.evil.example",
            "1.2.3.4.5",
            "[evil.example]:80",
            "svc.evil.example",
            "",
            ":8080",
            "evil.example:8080:8080",
            "user@evil.example",
        ] {
            assert!(!hosts.answers(host), "{host}");
        }
    }
}
