use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time};
use tokio_util::task::AbortOnDropHandle;
use tracker_api::{CorruptRow, Entry, Progress, RecordId};

use super::{
    ask::{Ask, Listing, Many, Purge, Resolve, Settled, Verb},
    data_dir::DataDir,
    error::{Error, Kind, Result},
    lines::ProgressLine,
    many::{About, Exported, Grouped},
    operations::{Operations, Reconciled},
    shown::{Position, Shown},
    standing::Standing,
};
use crate::http::SOCKET;

/// The longest answer that is read: a page of records with their bytes stays below it.
const ANSWER: usize = 32 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(30);
/// For what looks through the whole store.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// A way to the records.
#[derive(Debug)]
pub enum Access {
    /// The running service is asked over its socket.
    Service(Client),
    /// No service holds the store: this process opened it, and holds the data directory meanwhile.
    Store(Operations, Option<DataDir>),
}

/// Asks a running service.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Access {
    /// Finds the way: the service that holds `data_dir`, or else the store that `open` opens.
    ///
    /// # Errors
    ///
    /// [`Kind::Held`] when a process holds the directory that answers on no socket (another command, or a service that
    /// is just starting or stopping), and those of `open`.
    pub async fn reach<F>(data_dir: &Path, open: impl FnOnce() -> F) -> Result<Self>
    where
        F: Future<Output = Result<Operations>>,
    {
        let client = Client::new(data_dir);
        if DataDir::holder(data_dir).is_some() {
            match client.connect().await {
                Ok(_) => return Ok(Self::Service(client)),
                Err(error) => {
                    tracing::debug!(%error, "the data directory is held, but nobody answers on its socket")
                }
            }
        }
        let held = DataDir::borrow(data_dir)?;
        Ok(Self::Store(open().await?, held))
    }

    pub(super) async fn list(&self, ask: &Ask) -> Result<Listing> {
        match self {
            Self::Service(client) => client.list(ask).await,
            Self::Store(operations, _) => operations.list(ask).await,
        }
    }

    pub(super) async fn show(&self, id: &RecordId, payload: bool) -> Result<Shown> {
        match self {
            Self::Service(client) => {
                client
                    .get(&format!("/v1/failures/{}?payload={payload}", segment(id)))
                    .await
            }
            Self::Store(operations, _) => operations.show(id, payload).await,
        }
    }

    pub(super) async fn retry(&self, id: &RecordId, resolve: &Resolve) -> Result<Shown> {
        match self {
            Self::Service(client) => {
                client
                    .post(&format!("/v1/failures/{}/retry", segment(id)), resolve)
                    .await
            }
            Self::Store(operations, _) => operations.retry(id, resolve).await,
        }
    }

    pub(super) async fn skip(&self, id: &RecordId, resolve: &Resolve) -> Result<Shown> {
        match self {
            Self::Service(client) => {
                client
                    .post(&format!("/v1/failures/{}/skip", segment(id)), resolve)
                    .await
            }
            Self::Store(operations, _) => operations.skip(id, resolve).await,
        }
    }

    pub(super) async fn groups(&self, ask: &Ask) -> Result<Vec<Grouped>> {
        match self {
            Self::Service(client) => client.get(&format!("/v1/groups?{}", asked(ask)?)).await,
            Self::Store(operations, _) => operations.groups(ask).await,
        }
    }

    pub(super) async fn settle(&self, verb: Verb, many: &Many) -> Result<Vec<Settled>> {
        match self {
            Self::Service(client) => client.post(&format!("/v1/{}", verb.word()), many).await,
            Self::Store(operations, _) => operations.settle(verb, many).await,
        }
    }

    pub(super) async fn purge(&self, purge: &Purge) -> Result<u64> {
        match self {
            Self::Service(client) => client.work("/v1/purge", purge).await,
            Self::Store(operations, _) => operations.purge(purge).await,
        }
    }

    pub(super) async fn about(&self) -> Result<About> {
        match self {
            Self::Service(client) => client.get("/v1/tracker").await,
            Self::Store(operations, _) => operations.about().await,
        }
    }

    /// An older service does not know; then there is nothing to say.
    pub(super) async fn corrupt_rows(&self) -> Vec<CorruptRow> {
        let rows = match self {
            Self::Service(client) => client.corrupt_rows().await,
            Self::Store(operations, _) => operations.corrupt_rows(),
        };
        rows.unwrap_or_default()
    }

    pub(super) async fn progress(&self) -> Result<Vec<Position>> {
        match self {
            Self::Service(client) => client.get("/v1/progress").await,
            Self::Store(operations, _) => operations.progress().await,
        }
    }

    /// What the running service says of its lanes; nothing where none runs.
    pub(super) async fn standing(&self) -> Result<Standing> {
        match self {
            Self::Service(client) => client.get("/v1/stalls").await,
            Self::Store(..) => Ok(Standing::default()),
        }
    }

    pub(super) async fn reconcile(&self) -> Result<Vec<Reconciled>> {
        match self {
            Self::Service(client) => client.work("/v1/reconcile", &()).await,
            Self::Store(operations, _) => operations.reconcile().await,
        }
    }
}

/// A request's query: each field of what is asked that is set.
fn asked(ask: &Ask) -> Result<String> {
    let fields = serde_json::to_value(ask).map_err(|error| unreadable(&error))?;
    let fields = fields.as_object().into_iter().flatten();
    let pairs: Vec<String> = fields
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => format!("{name}={}", encoded(text)),
            other => format!("{name}={other}"),
        })
        .collect();
    Ok(pairs.join("&"))
}

#[derive(Deserialize)]
struct Refusal {
    error: Error,
}

impl Client {
    /// Of the service whose data directory this is.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            socket: data_dir.join(SOCKET),
        }
    }

    /// What the service says of itself.
    ///
    /// # Errors
    ///
    /// [`Kind::Unavailable`] when it does not answer.
    pub async fn info(&self) -> Result<serde_json::Value> {
        self.get("/v1/info").await
    }

    async fn list(&self, ask: &Ask) -> Result<Listing> {
        self.get(&format!("/v1/failures?{}", asked(ask)?)).await
    }

    pub(super) async fn corrupt_rows(&self) -> Result<Vec<CorruptRow>> {
        self.get("/v1/tracker/corrupt").await
    }

    /// Entries as they are held, in order of record, behind `after`; and whether there are more.
    pub(super) async fn export(&self, after: Option<&RecordId>) -> Result<(Vec<Entry>, bool)> {
        let after = after
            .map(|id| format!("?after={}", encoded(&id.to_string())))
            .unwrap_or_default();
        let page: Exported = self.get(&format!("/v1/export{after}")).await?;
        Ok((page.entries.into_iter().map(Entry::from).collect(), page.more))
    }

    pub(super) async fn raw_progress(&self) -> Result<Vec<Progress>> {
        let rows: Vec<ProgressLine> = self.get("/v1/export/progress").await?;
        Ok(rows.into_iter().map(Progress::from).collect())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, Bytes::new(), PATIENCE).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
        self.send(Method::POST, path, body.into(), PATIENCE).await
    }

    async fn work<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
        self.send(Method::POST, path, body.into(), LONG_PATIENCE).await
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.socket).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T> {
        let answer = time::timeout(patience, self.exchange(method, path, body))
            .await
            .map_err(|_| self.unreachable(&format!("no answer within {} s", patience.as_secs())))?;
        let (ok, body) = answer?;
        if ok {
            return serde_json::from_slice(&body).map_err(|error| unreadable(&error));
        }
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(refusal.error),
            Err(error) => Err(unreadable(&error)),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(bool, Bytes)> {
        let stream = self.connect().await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let ok = answer.status().is_success();
        let body = Limited::new(answer.into_body(), ANSWER)
            .collect()
            .await
            .map_err(|error| self.unreachable(&error))?;
        Ok((ok, body.to_bytes()))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Error {
        Error::new(
            Kind::Unavailable,
            format!("the service does not answer at {}: {why}", self.socket.display()),
        )
    }
}

fn unreadable(error: &serde_json::Error) -> Error {
    Error::new(
        Kind::Failed,
        format!("the service answered with what this version does not understand: {error}"),
    )
}

fn segment(id: &RecordId) -> String {
    encoded(&id.to_string())
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
