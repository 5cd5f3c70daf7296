//! The S3 door as clients meet it: a real server on a free port.

mod boto3;
mod raw;
mod server;
