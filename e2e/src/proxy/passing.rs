//! What happens to one call: it is written down, broken or passed on.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use serde_json::Value;
use tokio::sync::watch;

use super::{
    Call, Shared,
    fault::{Effect, Struck},
    lock,
};

/// Headers that belong to one connection and are not passed on (RFC 9110 section 7.6.1), and the host, which is the
/// upstream's own.
const NOT_PASSED_ON: [HeaderName; 7] = [
    header::CONNECTION,
    header::HOST,
    header::CONTENT_LENGTH,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The API server ends a watch long before.
const LONGEST_WATCH: Duration = Duration::from_hours(2);

/// A body that is known whole, or one that passes through as it comes.
type Answer = Either<Full<Bytes>, reqwest::Body>;

/// Where a call was written down.
#[derive(Clone, Copy)]
struct Recorded {
    number: usize,
    at: Instant,
}

impl Shared {
    /// An error closes the connection without an answer.
    pub(super) async fn handle(&self, request: Request<Incoming>) -> anyhow::Result<Response<Answer>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
            .to_owned();
        let call = Call {
            at: Instant::now(),
            method: parts.method,
            target,
            status: None,
            arrived: false,
            content_type: text(&parts.headers, header::CONTENT_TYPE),
            authorization: text(&parts.headers, header::AUTHORIZATION),
            body,
        };
        let recorded = self.record(&call);
        // Before anybody can know of the call and heal it.
        let healed = self.healed.subscribe();
        let pass = |call: Call| self.forward(call, recorded, &parts.headers);
        let response = match self.effect_on(&call) {
            None => pass(call).await?,
            Some(struck) => struck.suffered(call, pass, healed).await?,
        };
        self.note(recorded, |call| call.status = Some(response.status()));
        Ok(response)
    }

    /// Writes the call down.
    fn record(&self, call: &Call) -> Recorded {
        let mut calls = lock(&self.calls);
        calls.push(call.clone());
        Recorded {
            number: calls.len() - 1,
            at: call.at,
        }
    }

    /// Changes the record of a call, unless the records were cleared meanwhile.
    fn note(&self, recorded: Recorded, change: impl FnOnce(&mut Call)) {
        let mut calls = lock(&self.calls);
        if let Some(call) = calls
            .get_mut(recorded.number)
            .filter(|call| call.at == recorded.at)
        {
            change(call);
        }
    }

    fn effect_on(&self, call: &Call) -> Option<Struck> {
        lock(&self.faults).iter_mut().find_map(|fault| fault.take(call))
    }

    async fn forward(
        &self,
        call: Call,
        recorded: Recorded,
        headers: &HeaderMap,
    ) -> anyhow::Result<Response<Answer>> {
        let url = format!("{}{}", self.upstream, call.target);
        let watch = call.is_watch();
        let mut request = self.http.request(call.method, url).headers(passed_on(headers));
        if watch {
            request = request.timeout(LONGEST_WATCH);
        }
        let answer = request.body(call.body).send().await?;
        self.note(recorded, |call| call.arrived = true);
        let mut response = Response::new(Answer::Left(Full::default()));
        *response.status_mut() = answer.status();
        *response.headers_mut() = passed_on(answer.headers());
        if watch {
            *response.body_mut() = Answer::Right(http::Response::from(answer).into_body());
            return Ok(response);
        }
        let body = answer.bytes().await?;
        lock(&self.tokens).extend(tokens(headers, &body));
        *response.body_mut() = Answer::Left(Full::new(body));
        Ok(response)
    }
}

impl Struck {
    /// What comes of a call that met this fault, where `pass` carries it out.
    async fn suffered<F>(
        &self,
        call: Call,
        pass: impl Fn(Call) -> F,
        mut healed: watch::Receiver<u64>,
    ) -> anyhow::Result<Response<Answer>>
    where
        F: Future<Output = anyhow::Result<Response<Answer>>>,
    {
        if !self.effect.carries_out() {
            self.tell();
        }
        match &self.effect {
            Effect::Delay(pause) => {
                tokio::time::sleep(*pause).await;
                pass(call).await
            }
            Effect::Hold => {
                let _ = healed.changed().await;
                pass(call).await
            }
            Effect::Duplicate => {
                pass(call.clone()).await?;
                let second = pass(call).await?;
                self.tell();
                Ok(second)
            }
            Effect::Amend(change) => amended(pass(call).await?, change.as_ref()).await,
            Effect::Status { code, retry_after } => made_up(*code, *retry_after),
            Effect::LoseReply => {
                pass(call).await?;
                self.tell();
                Err(anyhow!("the reply is lost on purpose"))
            }
            Effect::KeepReply => {
                pass(call).await?;
                self.tell();
                let _ = healed.changed().await;
                Err(anyhow!("the reply is kept on purpose"))
            }
            Effect::Disconnect => Err(anyhow!("disconnected on purpose")),
            Effect::Hang => {
                let _ = healed.changed().await;
                Err(anyhow!("hung on purpose"))
            }
        }
    }
}

/// The token that a request carries, and those that its answer gives (RFC 6749 section 5.1).
fn tokens(request: &HeaderMap, answer: &[u8]) -> Vec<String> {
    let sent = request
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let sent = sent
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let given = ["access_token", "refresh_token", "id_token"]
        .into_iter()
        .filter_map(|field| answer[field].as_str().map(str::to_owned));
    given.chain(sent).collect()
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in NOT_PASSED_ON {
        headers.remove(name);
    }
    headers
}

async fn amended(
    response: Response<Answer>,
    change: &(dyn Fn(&mut Value) + Send + Sync),
) -> anyhow::Result<Response<Answer>> {
    let (parts, body) = response.into_parts();
    let bytes = match body {
        Answer::Left(whole) => whole.collect().await?.to_bytes(),
        Answer::Right(passing) => passing.collect().await?.to_bytes(),
    };
    let bytes = match serde_json::from_slice::<Value>(&bytes) {
        Ok(mut json) => {
            change(&mut json);
            Bytes::from(serde_json::to_vec(&json)?)
        }
        Err(_) => bytes,
    };
    Ok(Response::from_parts(parts, Answer::Left(Full::new(bytes))))
}

fn made_up(code: StatusCode, retry_after: Option<u64>) -> anyhow::Result<Response<Answer>> {
    let mut response = Response::builder().status(code);
    if let Some(seconds) = retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    Ok(response.body(Answer::Left(Full::default()))?)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
