use std::io::{self, Read};

/// Kafka's API keys that matter here.
pub mod api {
    /// Produce
    pub const PRODUCE: i16 = 0;
    /// InitProducerId
    pub const INIT_PRODUCER_ID: i16 = 22;
    /// AddPartitionsToTxn
    pub const ADD_PARTITIONS_TO_TXN: i16 = 24;
    /// AddOffsetsToTxn
    pub const ADD_OFFSETS_TO_TXN: i16 = 25;
    /// EndTxn
    pub const END_TXN: i16 = 26;
    /// TxnOffsetCommit
    pub const TXN_OFFSET_COMMIT: i16 = 28;
}

/// A request as a client sent it, with its length in front.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) bytes: Vec<u8>,
    pub(super) api: i16,
    pub(super) version: i16,
    pub(super) correlation: i32,
}

const LARGEST: usize = 200 << 20;

/// The next frame with its length; none at the end.
pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if let Err(error) = from.read_exact(&mut length) {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            Ok(None)
        } else {
            Err(error)
        };
    }
    let size = usize::try_from(i32::from_be_bytes(length))
        .ok()
        .filter(|size| *size <= LARGEST)
        .ok_or_else(|| io::Error::other("not a frame of Kafka's"))?;
    let mut bytes = vec![0; 4 + size];
    bytes[..4].copy_from_slice(&length);
    from.read_exact(&mut bytes[4..])?;
    Ok(Some(bytes))
}

/// The correlation id of an answer.
pub(super) fn correlation(answer: &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(answer.get(4..8)?.try_into().ok()?))
}

impl Request {
    pub(super) fn parse(bytes: Vec<u8>) -> Option<Self> {
        let api = i16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?);
        let version = i16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?);
        let correlation = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        Some(Self {
            bytes,
            api,
            version,
            correlation,
        })
    }

    /// The transactional id, for the requests that begin with one.
    pub(super) fn transactional_id(&self) -> Option<&str> {
        let first_flexible = match self.api {
            api::PRODUCE if self.version >= 3 => 9,
            api::INIT_PRODUCER_ID => 2,
            api::ADD_PARTITIONS_TO_TXN if self.version < 4 => 3,
            api::ADD_OFFSETS_TO_TXN | api::END_TXN | api::TXN_OFFSET_COMMIT => 3,
            _ => return None,
        };
        let mut rest = self.bytes.get(12..)?;
        text(&mut rest, false)?; // the client's id
        let flexible = self.version >= first_flexible;
        if flexible {
            (*rest.first()? == 0).then_some(())?; // no tagged fields
            rest = &rest[1..];
        }
        text(&mut rest, flexible)?.filter(|id| !id.is_empty())
    }

    /// Of an EndTxn, whether it commits.
    pub(super) fn commits(&self) -> Option<bool> {
        (self.api == api::END_TXN).then_some(())?;
        let end = if self.version >= 3 {
            self.bytes.len() - 1
        } else {
            self.bytes.len()
        };
        Some(*self.bytes.get(end - 1)? != 0)
    }
}

/// A nullable string; compact ones are shorter than 127 bytes here.
fn text<'a>(rest: &mut &'a [u8], compact: bool) -> Option<Option<&'a str>> {
    let (length, behind) = if compact {
        let (first, behind) = rest.split_first()?;
        (i16::from(*first) - 1, behind)
    } else {
        let (first, behind) = rest.split_at_checked(2)?;
        (i16::from_be_bytes(first.try_into().ok()?), behind)
    };
    let Ok(length) = usize::try_from(length) else {
        *rest = behind;
        return Some(None);
    };
    let (text, behind) = behind.split_at_checked(length)?;
    *rest = behind;
    Some(std::str::from_utf8(text).ok())
}

/// The error code in the answer to an EndTxn, AddOffsetsToTxn or (its first partition's) TxnOffsetCommit.
pub(super) fn error_code(request: &Request, answer: &[u8]) -> Option<i16> {
    let flexible = request.version >= 3;
    let body = answer.get(if flexible { 9 } else { 8 }..)?; // a flexible header has tagged fields
    let body = body.get(4..)?; // throttle time
    let at = match request.api {
        api::END_TXN | api::ADD_OFFSETS_TO_TXN => body,
        api::TXN_OFFSET_COMMIT if flexible => {
            let name = usize::from(*body.get(1)?).checked_sub(1)?;
            body.get(2 + name + 1 + 4..)?
        }
        api::TXN_OFFSET_COMMIT => {
            let name = usize::try_from(i16::from_be_bytes(body.get(4..6)?.try_into().ok()?)).ok()?;
            body.get(6 + name + 4 + 4..)?
        }
        _ => return None,
    };
    Some(i16::from_be_bytes(at.get(..2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(api: i16, version: i16, body: &[u8]) -> Request {
        let mut bytes = Vec::new();
        bytes.extend(api.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend(7_i32.to_be_bytes());
        bytes.extend(b"\x00\x02me");
        bytes.extend(body);
        let mut frame = i32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        frame.extend(bytes);
        Request::parse(frame).unwrap()
    }

    #[test]
    fn an_end_of_a_transaction_says_whose_and_which() {
        let commit = request(26, 1, b"\x00\x04tx-1\0\0\0\0\0\0\0\x09\0\x01\x01");
        assert_eq!(commit.transactional_id(), Some("tx-1"));
        assert_eq!(commit.commits(), Some(true));
        assert_eq!(commit.correlation, 7);
        let abort = request(26, 3, b"\0\x05tx-1\0\0\0\0\0\0\0\x09\0\x01\x00\0");
        assert_eq!(abort.transactional_id(), Some("tx-1"));
        assert_eq!(abort.commits(), Some(false));
    }

    #[test]
    fn a_produce_without_transaction_has_no_id() {
        assert_eq!(request(0, 7, b"\xff\xff\0\x01").transactional_id(), None);
        assert_eq!(request(3, 1, b"").transactional_id(), None);
    }

    #[test]
    fn a_broken_frame_is_an_error_and_no_panic() {
        assert!(read(&mut &b"\xff\xff\xff\xff"[..]).is_err());
        assert!(read(&mut &b"\0\0\0\x09abc"[..]).is_err());
        assert!(read(&mut &b""[..]).unwrap().is_none());
        assert!(Request::parse(b"\0\0\0\x01a".to_vec()).is_none());
        assert_eq!(request(26, 1, b"\x00\x40tx").transactional_id(), None);
    }

    #[test]
    fn the_answer_to_a_late_request_is_read() {
        let commit = request(26, 1, b"");
        assert_eq!(
            error_code(&commit, b"\0\0\0\x0a\0\0\0\x07\0\0\0\0\0\x2f"),
            Some(47)
        );
        let offsets = request(28, 2, b"");
        let answer = b"\0\0\0\x00\0\0\0\x07\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x00\0\x2f";
        assert_eq!(error_code(&offsets, answer), Some(47));
    }
}
