//! What keeps the stand-in strict. Every rule has a test that calls it over https as anybody would, and says which part of
//! the vendor's documentation, or of recorded traffic, the rule comes from. "Choice" marks what neither tells.

mod cimd;
mod clients;
mod connections;
mod credentials;
mod dashboard;
mod exchange;
mod faults;
mod grants;
mod login;
mod machines;
mod management;
mod pages;
mod refresh;
mod registration;
mod resource_servers;
mod roles;
mod settings;
mod support;
mod third_party;
mod users;
