//! One call to an authorization server: fenced, limited, bounded in time and size, counted, repeated only where that is
//! safe. What it answers is never quoted: of an error only its code survives.

mod answer;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::{Method, RequestBuilder, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use url::Url;

use super::{
    ProviderError,
    realm::{Pass, RealmLimits},
};
use crate::{
    egress::{EgressClient, EgressError, read_bounded},
    lease::Leadership,
    metrics::{CallOutcome, Metrics},
};
pub(crate) use answer::Answer;
use answer::{allowance, retry_after};

/// The most that is read of an answer about one thing: 1 MiB.
pub(crate) const ONE: usize = 1024 * 1024;

/// The most that is read of a list: 8 MiB, some thousands of scopes, which Keycloak does not page.
pub(crate) const LIST: usize = 8 * ONE;

/// Repetitions within one call: two, after about 0.2 s and 0.6 s. Longer pauses are the reconciler's matter.
const RETRIES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_factor(3.0)
    .with_max_times(2)
    .with_jitter();

/// A `Retry-After` up to this is waited for within the call.
const PATIENCE: Duration = Duration::from_secs(2);

/// What it means to send a request twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it changes nothing.
    Read,
    /// Nothing more than to send it once: it sets or removes something.
    Replace,
    /// Perhaps a second thing. Never repeated blindly.
    Create,
}

/// The content of a request.
#[derive(Clone, Copy)]
pub(crate) enum Body<'a> {
    Empty,
    Json(&'a Value),
    Form(&'a [(&'a str, &'a str)]),
}

/// What a request shows to be let through.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'a> {
    /// Nothing, or what is in its body.
    Nothing,
    /// A token (RFC 6750 section 2.1).
    Bearer(&'a SecretString),
    /// A client and its secret (RFC 6749 section 2.3.1), each encoded as in a form.
    Basic(&'a str, &'a SecretString),
}

/// A call of [`Effect::Create`] that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotCreated {
    pub(crate) error: ProviderError,
    /// It may have been carried out all the same: it was sent, and nothing says that it was refused.
    pub(crate) may_exist: bool,
}

/// A request.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    /// The operation, as metrics count it.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) effect: Effect,
    pub(crate) shown: Shown<'a>,
    pub(crate) body: Body<'a>,
    /// How many bytes of the answer are read at most.
    pub(crate) limit: usize,
}

/// Speaks to one realm.
#[derive(Debug)]
pub(crate) struct HttpClient {
    pub(crate) egress: EgressClient,
    pub(crate) limits: Arc<RealmLimits>,
    pub(crate) metrics: Metrics,
    pub(crate) leadership: Leadership,
}

impl HttpClient {
    /// Makes a call and returns the answer, whatever its status, unless the status says that the server cannot now.
    ///
    /// # Errors
    /// Unreachable, Untrusted, Refused, Unavailable, Malformed, NotLeading.
    pub(crate) async fn call(&self, request: &Request<'_>) -> Result<Answer, ProviderError> {
        self.make(request).await.map_err(|failure| failure.error)
    }

    /// The same for a call that must not be made twice.
    ///
    /// # Errors
    /// The same, and whether the call may have been carried out.
    pub(crate) async fn create(&self, request: &Request<'_>) -> Result<Answer, NotCreated> {
        self.make(request).await.map_err(|failure| NotCreated {
            error: failure.error,
            may_exist: failure.may_be_done,
        })
    }

    async fn make(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let pass = self.limits.admit().map_err(Failure::unsent)?;
        let result = if pass.is_probe() {
            self.attempt(&pass, request).await
        } else {
            (|| self.attempt(&pass, request))
                .retry(RETRIES)
                .sleep(sleep)
                .when(|failure| failure.is_brief && request.effect != Effect::Create)
                .adjust(wait)
                .await
        };
        pass.conclude(result.as_ref().err().map(|failure| &failure.error));
        result
    }

    async fn attempt(&self, pass: &Pass<'_>, request: &Request<'_>) -> Result<Answer, Failure> {
        let _slot = self.limits.turn(pass).await.map_err(Failure::unsent)?;
        // After all waiting and right before sending: this is the last look at the lease.
        if request.effect != Effect::Read && !self.leadership.is_held() {
            return Err(Failure::unsent(ProviderError::NotLeading));
        }
        let begun = Instant::now();
        let Some(result) = self.bounded(request).await else {
            return Err(Failure {
                may_be_done: true,
                ..Failure::unsent(ProviderError::NotLeading)
            });
        };
        let outcome = match &result {
            Ok(answer) => CallOutcome::Status(answer.status.as_u16()),
            Err(_) => CallOutcome::NoAnswer,
        };
        self.metrics
            .authorization_server_called(request.operation, outcome, begun.elapsed());
        tracing::debug!(
            operation = request.operation,
            ?outcome,
            "authorization server called"
        );
        match result {
            Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => Err(Failure {
                error: ProviderError::Unavailable {
                    status: answer.status.as_u16(),
                    retry_after: answer.retry_after,
                },
                is_brief: true,
                // These two say that nothing was begun (RFC 6585 section 4, RFC 9110 section 15.6.4).
                may_be_done: !matches!(answer.status.as_u16(), 429 | 503),
            }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(Failure {
                is_brief: matches!(error, EgressError::Unreachable | EgressError::NotConnected),
                may_be_done: error.may_have_arrived(),
                error: classify(request.operation, &error),
            }),
        }
    }

    /// The exchange; for all but a read nothing, if the lease ends before it.
    async fn bounded(&self, request: &Request<'_>) -> Option<Result<Answer, EgressError>> {
        let exchange = self.exchange(request);
        if request.effect == Effect::Read {
            return Some(exchange.await);
        }
        self.leadership.while_held(exchange).await
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Answer, EgressError> {
        let built = self.egress.request(request.method.clone(), &request.url)?;
        let response = self.egress.send(prepare(built, request)).await?;
        let status = response.status();
        let allowance = allowance(response.headers());
        let retry_after = retry_after(response.headers());
        if let Some(wait) = allowance {
            self.limits.rest(wait);
        }
        let body = read_bounded(response, request.limit).await?;
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }
}

fn prepare(builder: RequestBuilder, request: &Request<'_>) -> RequestBuilder {
    let builder = builder.header(header::ACCEPT, "application/json");
    // Both are marked as sensitive by reqwest.
    let builder = match request.shown {
        Shown::Bearer(token) => builder.bearer_auth(token.expose_secret()),
        Shown::Basic(id, secret) => builder.basic_auth(id, Some(secret.expose_secret())),
        Shown::Nothing => builder,
    };
    match request.body {
        Body::Empty => builder,
        Body::Json(value) => builder.json(value),
        Body::Form(fields) => builder.form(fields),
    }
}

/// A failed attempt.
struct Failure {
    error: ProviderError,
    /// It came quickly and may pass as quickly: a broken connection, an overloaded server. A silent server is none such:
    /// asking it again would hold up the caller, and with it other realms' objects, for as long again.
    is_brief: bool,
    /// It was sent, and nothing says that it was not carried out.
    may_be_done: bool,
}

impl Failure {
    /// Of a call that was not sent.
    fn unsent(error: ProviderError) -> Self {
        Self {
            error,
            is_brief: false,
            may_be_done: false,
        }
    }
}

/// How long to wait before repeating; `None`: too long for this call.
fn wait(failure: &Failure, pause: Option<Duration>) -> Option<Duration> {
    let asked = failure.error.retry_after().unwrap_or_default();
    pause.filter(|_| asked <= PATIENCE).map(|pause| pause.max(asked))
}

/// Our words for an exchange that failed.
fn classify(operation: &'static str, error: &EgressError) -> ProviderError {
    match error {
        EgressError::Refused(refusal) => ProviderError::Refused {
            why: refusal.to_string(),
        },
        EgressError::Tls(problem) => ProviderError::Untrusted {
            why: problem.to_string(),
        },
        EgressError::TooLarge { .. } => ProviderError::Malformed {
            operation,
            why: "it is too long",
        },
        EgressError::Redirect => ProviderError::Malformed {
            operation,
            why: "it is a redirect, which is not followed",
        },
        EgressError::NotJson => ProviderError::Malformed {
            operation,
            why: "it is not the expected JSON",
        },
        EgressError::Request => ProviderError::Malformed {
            operation,
            why: "the request could not be built",
        },
        EgressError::Timeout
        | EgressError::NotConnected
        | EgressError::Unreachable
        | EgressError::UnknownHost
        | EgressError::Status(_)
        | EgressError::CaBundle
        | EgressError::Client => ProviderError::Unreachable {
            why: error.to_string(),
            retry_after: None,
        },
    }
}
