//! Bodies that do not fit into memory or have no end: snapshots in both directions, the log as it happens. Only
//! connecting has a time limit: how long the rest takes is the data's affair, and Ctrl-C ends it.

use std::io::Read;

use ureq::SendBody;
use ureq::http::{self, header};
use zeroize::Zeroizing;

use super::{Answer, Client, MAX_ANSWER, RawAnswer, Request, curl, explain, redirect_of};
use crate::cli::failure::Failure;

impl Client {
    /// Hands the answer on piece by piece, as it comes; ends early where `sink` answers false.
    pub(in crate::cli) fn download(
        &self,
        request: Request,
        sink: &mut dyn FnMut(&[u8]) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        if let Some(text) = self.shown_instead(&request) {
            return Err(Failure::instead(text));
        }
        let mut response = self.open(&request, SendBody::none(), None)?;
        if response.status().as_u16() >= 300 {
            return self.finish(&request, response).map(drop);
        }
        let mut reader = response.body_mut().with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; PIECE];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    if !sink(&piece[..length])? {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::remote(format!(
                        "the answer broke off before its end: {error}"
                    )));
                }
            }
        }
    }

    /// Sends `length` bytes of `source` as they are; `name` stands for them where the request is shown as curl.
    pub(in crate::cli) fn upload(
        &self,
        request: Request,
        source: &mut dyn Read,
        length: Option<u64>,
        name: &str,
    ) -> Result<Answer, Failure> {
        if let Some(mut text) = self.shown_instead(&request) {
            if self.shows_curl() {
                text.push_str(" --data-binary ");
                text.push_str(&curl::quoted(&format!("@{name}")));
            }
            return Err(Failure::instead(text));
        }
        let response = self.open(&request, SendBody::from_reader(source), length)?;
        self.finish(&request, response)
    }

    fn open(
        &self,
        request: &Request,
        body: SendBody<'_>,
        length: Option<u64>,
    ) -> Result<http::Response<ureq::Body>, Failure> {
        let address = &self.settings.address;
        let url = address.url(&request.path, &request.query);
        let mut builder = self.builder(address, &url, request)?;
        if request.method != "GET" {
            builder = builder.header(header::CONTENT_TYPE, request.content_type);
        }
        if let Some(length) = length {
            builder = builder.header(header::CONTENT_LENGTH, length);
        }
        let agent = self.new_agent(address, None)?;
        let bad =
            |error: http::Error| Failure::local(format!("the request cannot be made: {error}"));
        let answered = match request.method {
            "GET" => agent.run(builder.body(()).map_err(bad)?),
            _ => agent.run(builder.body(body).map_err(bad)?),
        };
        answered.map_err(|error| explain::failure(&error, address, &self.settings))
    }

    fn finish(
        &self,
        request: &Request,
        mut response: http::Response<ureq::Body>,
    ) -> Result<Answer, Failure> {
        let address = &self.settings.address;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_vec()
            .map_err(|error| explain::failure(&error, address, &self.settings))?;
        let (parts, _) = response.into_parts();
        let answer = RawAnswer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes: Zeroizing::new(bytes),
        };
        // What is sent is for this server alone, and what comes must be its own.
        if let Some(location) = redirect_of(&answer) {
            return Err(Failure::remote(format!(
                "{address} redirects to {location}, which is not followed"
            ))
            .hint("Set VAULT_ADDR to the address of the server that answers."));
        }
        self.judge(address, request, answer)
    }
}

/// Enough for a fast network, little for memory.
const PIECE: usize = 64 << 10;
