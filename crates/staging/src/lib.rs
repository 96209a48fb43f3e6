//! Schema staging: land a batch, claim a batch, dead letters, ledgers, expiry.
