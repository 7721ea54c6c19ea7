//! Log records, outcomes and state rows as Protobuf; generated from `proto/aktvator/v1.proto`.

#![allow(missing_docs, clippy::all, reason = "generated; the .proto file carries the comments")]

include!(concat!(env!("OUT_DIR"), "/aktvator.v1.rs"));
