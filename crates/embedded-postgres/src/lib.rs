//! A private Postgres cluster for the demo, tests and small installations.
