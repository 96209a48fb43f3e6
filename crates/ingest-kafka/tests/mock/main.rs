//! The crate on librdkafka's mock cluster and a real Postgres.

mod landing;
mod replaying;
mod world;
