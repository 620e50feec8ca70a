//! What a failed request can have done.

use std::error::Error as _;
use std::time::Duration;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use crate::store::StoreError;

/// Whether a request changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It may be repeated at will.
    None,
    /// It must not be repeated unless it was not done.
    Possible,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    cause: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// There was no connection to send it on.
    Unsent,
    /// etcd has looked at it and turned it down; it will do so again.
    Rejected,
    /// The revision asked for is gone.
    Compacted,
    /// All else: it may have been done.
    Unclear,
}

impl Failure {
    /// Judges an error of the client.
    ///
    /// "No space" is unclear on purpose: etcd applies a transaction that crosses its quota, and reports the error all the
    /// same (`quotaApplierV3.Txn` in server/etcdserver/apply.go).
    pub(super) fn of(error: &Error) -> Self {
        let kind = match error {
            Error::GRpcStatus(status) => judge(status),
            Error::TransportError(_) | Error::IoError(_) => Kind::Unclear,
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) | Error::EndpointError(_) => {
                Kind::Rejected
            }
            _ => Kind::Unclear,
        };
        let cause = match error {
            Error::GRpcStatus(status) => tell(status),
            error => error.to_string(),
        };
        Self { kind, cause }
    }

    /// No answer in time.
    pub(super) fn timeout(after: Duration) -> Self {
        Self { kind: Kind::Unclear, cause: format!("no answer within {:.1} s", after.as_secs_f64()) }
    }

    /// It certainly was not done and may be sent to another member.
    pub(super) fn is_unsent(&self) -> bool {
        self.kind == Kind::Unsent
    }

    /// Another try, with another member, may succeed.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Unsent | Kind::Unclear)
    }

    /// In the words of the store.
    pub(super) fn into_error(self, effect: Effect, endpoints: &str) -> StoreError {
        let (endpoints, cause) = (endpoints.to_owned(), self.cause);
        match (self.kind, effect) {
            (Kind::Compacted, _) => StoreError::Compacted(0),
            (Kind::Unclear, Effect::Possible) => StoreError::Unknown { endpoints, cause },
            _ => StoreError::Unavailable { endpoints, cause },
        }
    }

    /// Why, in words.
    pub(super) fn into_cause(self) -> String {
        self.cause
    }
}

fn judge(status: &Status) -> Kind {
    if connect_error(status).is_some() {
        return Kind::Unsent;
    }
    match status.code() {
        Code::OutOfRange if status.message().contains("compacted") => Kind::Compacted,
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => Kind::Rejected,
        _ => Kind::Unclear,
    }
}

fn connect_error(status: &Status) -> Option<&ConnectError> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(connect) = error.downcast_ref() {
            return Some(connect);
        }
        source = error.source();
    }
    None
}

/// The innermost cause says most: "Connection refused (os error 111)".
fn tell(status: &Status) -> String {
    let Some(connect) = connect_error(status) else {
        return format!("{} ({:?})", status.message(), status.code());
    };
    let mut error: &dyn std::error::Error = connect;
    while let Some(source) = error.source() {
        error = source;
    }
    format!("no connection: {error}")
}
