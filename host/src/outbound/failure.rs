//! What an error of the HTTP client means to the tenant, found by the types in its chain of causes.

use std::error::Error;
use std::io;
use std::time::Duration;

use rustls::CertificateError;

use super::ResolveError;
use crate::domain::outcome::SendError;

/// The first cause that says something; `limit` is the attempt's time limit.
pub(super) fn send_error(error: &(dyn Error + 'static), limit: Duration) -> SendError {
    let found = causes(error).find_map(|cause| meaning(cause, limit));
    found.unwrap_or(SendError::Network("connection broke before an answer"))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // `source()` of an `io::Error` skips the error it wraps; rustls' come wrapped.
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

fn meaning(cause: &(dyn Error + 'static), limit: Duration) -> Option<SendError> {
    if let Some(error) = cause.downcast_ref::<ResolveError>() {
        Some(of_resolve(*error))
    } else if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        Some(SendError::Tls(of_tls(error)))
    } else if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        of_http(error, limit)
    } else if let Some(error) = cause.downcast_ref::<io::Error>() {
        of_io(error.kind(), limit)
    } else {
        None
    }
}

fn of_resolve(error: ResolveError) -> SendError {
    match error {
        ResolveError::Refused => SendError::AddressRefused,
        ResolveError::NotFound => SendError::NameNotFound,
        ResolveError::TimedOut(budget) => SendError::TimedOut(budget),
        ResolveError::Failed => SendError::Network("name lookup failed"),
    }
}

fn of_tls(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(reason) => of_certificate(reason),
        rustls::Error::NoCertificatesPresented => "no certificate presented",
        rustls::Error::PeerIncompatible(_) => "no TLS version or cipher suite in common",
        rustls::Error::AlertReceived(_) => "the receiver ended the handshake",
        rustls::Error::InvalidMessage(_) => "the receiver does not speak TLS",
        _ => "handshake failed",
    }
}

fn of_certificate(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate is not valid yet",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "certificate is for another name"
        }
        CertificateError::UnknownIssuer => "certificate issuer is not trusted",
        CertificateError::Revoked => "certificate has been revoked",
        _ => "certificate is not valid",
    }
}

fn of_http(error: &hyper::Error, limit: Duration) -> Option<SendError> {
    if error.is_parse() {
        Some(SendError::Network("answer is not HTTP, or its headers are too large"))
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        Some(SendError::Network(CLOSED))
    } else if error.is_timeout() {
        Some(SendError::TimedOut(limit))
    } else {
        None
    }
}

fn of_io(kind: io::ErrorKind, limit: Duration) -> Option<SendError> {
    use io::ErrorKind;
    match kind {
        ErrorKind::ConnectionRefused => Some(SendError::ConnectionRefused),
        ErrorKind::TimedOut => Some(SendError::TimedOut(limit)),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Some(SendError::Network(CLOSED)),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Some(SendError::Network("host is unreachable"))
        }
        _ => None,
    }
}

const CLOSED: &str = "connection closed before an answer";
