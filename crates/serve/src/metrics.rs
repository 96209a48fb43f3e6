//! What the server counts.

/// Requests that were answered, by `route` and `outcome`: answered, refused (4xx), failed (5xx).
pub(crate) const REQUESTS: &str = "c360_http_requests_total";
/// Seconds from the head of a request to that of its answer, by `route`.
pub(crate) const REQUEST_SECONDS: &str = "c360_http_request_seconds";
/// Reads that are missing in the audit log, because the server was stopped while the database was away.
pub(crate) const AUDIT_LOST: &str = "c360_audit_lost_total";
