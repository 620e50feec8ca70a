//! What a failed request can have done.

use std::error::Error as _;
use std::time::Duration;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use super::credentials::BadFile;
use super::trouble::{self, Trouble};
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
    trouble: Trouble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It never reached what would have done it.
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
        let trouble = Trouble::of(error);
        let kind = match error {
            // A member without a leader turns requests away before it looks at them (`newUnaryInterceptor` in
            // etcdserver/api/v3rpc/interceptor.go).
            _ if trouble == Trouble::NoLeader => Kind::Unsent,
            // With TLS 1.3 a server looks at a certificate after the client has begun to write.
            _ if trouble.is_refused_certificate() => Kind::Unsent,
            Error::GRpcStatus(status) => judge(status),
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) | Error::EndpointError(_) => {
                Kind::Rejected
            }
            _ => Kind::Unclear,
        };
        Self { kind, trouble }
    }

    /// No answer in time. A request that was not sent yet can have done nothing.
    pub(super) fn timeout(after: Duration, sent: bool) -> Self {
        let kind = if sent { Kind::Unclear } else { Kind::Unsent };
        Self { kind, trouble: Trouble::Silent(after) }
    }

    /// A file cannot serve, for any member.
    pub(super) fn bad_file(bad: &BadFile) -> Self {
        Self { kind: Kind::Rejected, trouble: Trouble::Other(bad.to_string()) }
    }

    /// etcd has refused user and password a moment ago.
    pub(super) fn wrong_password() -> Self {
        Self { kind: Kind::Rejected, trouble: Trouble::WrongPassword }
    }

    /// It came before the request was sent.
    pub(super) fn before_sending(mut self) -> Self {
        if self.kind == Kind::Unclear {
            self.kind = Kind::Unsent;
        }
        self
    }

    /// It certainly was not done and may be sent to another member.
    pub(super) fn is_unsent(&self) -> bool {
        self.kind == Kind::Unsent
    }

    /// Another try, with another member, may succeed.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Unsent | Kind::Unclear)
    }

    /// More is known about it.
    pub(super) fn because(self, trouble: Trouble) -> Self {
        Self { trouble, ..self }
    }

    /// What it is about.
    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    /// In the words of the store. `cause` are the words for people.
    pub(super) fn into_error(self, effect: Effect, endpoints: &str, cause: String) -> StoreError {
        let endpoints = endpoints.to_owned();
        match (self.kind, effect) {
            (Kind::Compacted, _) => StoreError::Compacted(0),
            (Kind::Unclear, Effect::Possible) if self.trouble == Trouble::NoSpace => {
                StoreError::Full { endpoints, cause }
            }
            (Kind::Unclear, Effect::Possible) => StoreError::Unknown { endpoints, cause },
            _ => StoreError::Unavailable { endpoints, cause },
        }
    }
}

fn judge(status: &Status) -> Kind {
    if trouble::causes(status).any(|error| error.is::<ConnectError>()) {
        return Kind::Unsent;
    }
    match status.code() {
        // hyper's word for a request that was still in its queue when the connection ended.
        Code::Cancelled if status.source().is_some() && status.message().starts_with("operation was canceled") => {
            Kind::Unsent
        }
        Code::OutOfRange if status.message().contains("compacted") => Kind::Compacted,
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => Kind::Rejected,
        Code::FailedPrecondition => Kind::Rejected,
        _ => Kind::Unclear,
    }
}
