//! What a mount is: the contract between the server's core and every auth method and secrets engine.
//!
//! A backend declares typed [`Routes`] and implements [`Backend`]; the core owns everything else
//! (HTTP, tokens, policies, audit, leases). Nothing here knows HTTP or a storage engine, and nothing
//! in a backend needs to know the core.

mod attempts;
mod auth;
mod backend;
mod caller;
pub mod cidr;
pub mod duration;
mod error;
pub mod fields;
mod lease;
mod openapi;
mod pattern;
mod policy_name;
mod reference;
mod reply;
mod request;
mod routes;
mod secret;

pub use attempts::{Attempt, AttemptCounter, Attempts, Standing};
pub use auth::{Auth, WrapInfo};
pub use backend::{Backend, Family, Kind, KindAlias, MountContext, OpenFuture, Renewal};
pub use caller::{Caller, TokenKind};
pub use error::{Error, Result};
pub use lease::{Lease, LeaseIntent, LeaseRenewal, Leased, StoredIntent};
pub use openapi::{Document, MountDoc};
pub use pattern::{BadPattern, Pattern};
pub use policy_name::{PolicyName, PolicyNameError, assignable_policies, same_policies};
pub use reference::{FieldReference, OperationReference, PathReference};
pub use reply::{
    Bare, Begun, Data, DataOrNothing, Keys, Login, NoContent, OnConflict, Output, Part, Reply,
    Response, ShowingLogin, Stream, Text, TokenParams, Warned, Written,
};
pub use request::{Cx, Operation, RequestInfo, Upload};
pub use routes::{
    Access, Handler, Methods, Route, RouteDoc, RouteTable, Routes, delete, get, list, patch, post,
};
pub use secret::Secret;
