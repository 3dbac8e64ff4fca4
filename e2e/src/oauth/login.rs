//! A login as a browser does it: redirects, cookies, Keycloak's own login and consent pages.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail, ensure};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::header::LOCATION;
use scraper::{ElementRef, Html, Selector};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;

use super::{Issuer, OAuthClient, OAuthError};
use crate::secrets;

/// More pages than any login has.
const MOST_PAGES: usize = 12;

/// What a client sends a user to do.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// Where the browser returns to. Nobody needs to listen there.
    pub redirect_uri: String,
    /// The scopes to ask for, separated by spaces; empty to leave the parameter out.
    pub scope: String,
    /// The `resource` parameter (RFC 8707), which MCP clients always send.
    pub resource: Option<String>,
    /// Who signs in.
    pub username: String,
    /// With what.
    pub password: SecretString,
}

/// How a client binds a login to itself (RFC 7636).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pkce {
    /// By a hash of the verifier, as OAuth 2.1 wants it.
    S256,
    /// By the verifier itself.
    Plain,
    /// Not at all.
    Missing,
}

/// A code that a login ended with, and what is needed to redeem it.
#[derive(Clone, Debug)]
pub struct Code {
    pub(super) value: SecretString,
    pub(super) verifier: SecretString,
    pub(super) redirect_uri: String,
    pub(super) resource: Option<String>,
    /// What the user was asked to consent to, in the words of the page; None when there was no such page.
    pub consent: Option<Vec<String>>,
}

/// How a login ended. A story says with [`Authorization::granted`] or [`Authorization::refused`] what it expects.
#[must_use = "say with granted() or refused() what is expected"]
#[derive(Clone, Debug)]
pub struct Authorization(Result<Code, OAuthError>);

impl Authorization {
    /// The code, or an error when the client got an error instead.
    pub fn granted(self) -> anyhow::Result<Code> {
        self.0
            .map_err(|refusal| anyhow!("the login ended with an error: {refusal}"))
    }

    /// The error that the client got, or an error when there was a code.
    pub fn refused(self) -> anyhow::Result<OAuthError> {
        match self.0 {
            Ok(_) => bail!("the login succeeded"),
            Err(refusal) => Ok(refusal),
        }
    }
}

/// What the browser has in front of it.
enum Page {
    /// A form to send, and the consent that it asks for.
    Form {
        action: Url,
        fields: BTreeMap<String, String>,
        consent: Option<Vec<String>>,
    },
    /// Nothing to go on with; the text that the user reads.
    DeadEnd(String),
}

impl Issuer {
    /// Signs a user in for a client, with PKCE (S256) and a fresh `state`, giving consent when asked. Checks `state`
    /// and `iss` of the answer (RFC 9207).
    pub async fn sign_in(
        &self,
        client: &OAuthClient,
        request: &LoginRequest,
    ) -> anyhow::Result<Authorization> {
        self.sign_in_with(client, request, Pkce::S256).await
    }

    /// The same for a client that may not do PKCE as it should.
    pub async fn sign_in_with(
        &self,
        client: &OAuthClient,
        request: &LoginRequest,
        pkce: Pkce,
    ) -> anyhow::Result<Authorization> {
        let verifier = secrets::random();
        let state = secrets::random_text();
        let browser = self.browser()?;
        let start = self.authorization_url(client, request, challenge(pkce, &verifier), &state)?;
        let mut next = browser.get(start);
        let mut consent = None;
        for _ in 0..MOST_PAGES {
            let response = next
                .send()
                .await
                .context("the authorization server does not answer")?;
            let here = response.url().clone();
            if let Some(location) = response.headers().get(LOCATION) {
                let target = here.join(location.to_str()?)?;
                if target.as_str().starts_with(&request.redirect_uri) {
                    let code = Code {
                        value: SecretString::default(),
                        verifier,
                        redirect_uri: request.redirect_uri.clone(),
                        resource: request.resource.clone(),
                        consent,
                    };
                    return self.read_answer(&target, &state, code);
                }
                next = browser.get(target);
                continue;
            }
            let status = response.status();
            match read_page(&here, &response.text().await?, request)? {
                Page::Form {
                    action,
                    fields,
                    consent: asked,
                } => {
                    consent = asked.or(consent);
                    next = browser.post(action).form(&fields);
                }
                Page::DeadEnd(text) => bail!("the login ends at a page ({status}) that says: {text}"),
            }
        }
        bail!("the login is not over after {MOST_PAGES} pages")
    }

    /// A browser that nobody has signed in with yet.
    fn browser(&self) -> anyhow::Result<reqwest::Client> {
        Ok(self.trust.http_client()?.cookie_store(true).build()?)
    }

    fn authorization_url(
        &self,
        client: &OAuthClient,
        request: &LoginRequest,
        challenge: Option<(&str, String)>,
        state: &str,
    ) -> anyhow::Result<Url> {
        let mut url = Url::parse(&self.metadata.authorization_endpoint)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", client.id())
            .append_pair("redirect_uri", &request.redirect_uri)
            .append_pair("state", state);
        if let Some((method, challenge)) = challenge {
            url.query_pairs_mut()
                .append_pair("code_challenge", &challenge)
                .append_pair("code_challenge_method", method);
        }
        if !request.scope.is_empty() {
            url.query_pairs_mut().append_pair("scope", &request.scope);
        }
        if let Some(resource) = &request.resource {
            url.query_pairs_mut().append_pair("resource", resource);
        }
        Ok(url)
    }

    fn read_answer(&self, target: &Url, state: &str, code: Code) -> anyhow::Result<Authorization> {
        let answer: BTreeMap<String, String> = target.query_pairs().into_owned().collect();
        ensure!(
            answer.get("state").is_some_and(|sent| sent == state),
            "the login came back with another state"
        );
        ensure!(
            answer.get("iss").is_some_and(|sent| sent == self.url()),
            "the login came back from another issuer"
        );
        if let Some(error) = answer.get("error") {
            let error_description = answer.get("error_description").cloned().unwrap_or_default();
            return Ok(Authorization(Err(OAuthError {
                error: error.clone(),
                error_description,
            })));
        }
        let value = answer
            .get("code")
            .context("the login came back with neither code nor error")?;
        Ok(Authorization(Ok(Code {
            value: SecretString::from(value.as_str()),
            ..code
        })))
    }
}

/// The method and the challenge to send.
fn challenge(pkce: Pkce, verifier: &SecretString) -> Option<(&'static str, String)> {
    let verifier = verifier.expose_secret();
    match pkce {
        Pkce::S256 => Some(("S256", URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)))),
        Pkce::Plain => Some(("plain", verifier.to_owned())),
        Pkce::Missing => None,
    }
}

/// Finds the form that a user would send next, and fills it in.
fn read_page(here: &Url, html: &str, request: &LoginRequest) -> anyhow::Result<Page> {
    let page = Html::parse_document(html);
    let problem = texts(&page, "#input-error, .kc-feedback-text, #kc-error-message")?;
    let (login, consent) = (
        select("form#kc-form-login")?,
        select("input[name=accept], button[name=accept]")?,
    );
    if let Some(form) = page.select(&login).next() {
        if !problem.is_empty() {
            return Ok(Page::DeadEnd(problem.join(" ")));
        }
        let mut fields = hidden_fields(form)?;
        fields.insert("username".to_owned(), request.username.clone());
        fields.insert("password".to_owned(), request.password.expose_secret().to_owned());
        return Ok(Page::Form {
            action: action(here, form)?,
            fields,
            consent: None,
        });
    }
    if let Some(form) = page.select(&consent).next().and_then(enclosing_form) {
        let mut fields = hidden_fields(form)?;
        fields.insert("accept".to_owned(), "Yes".to_owned());
        let consent = Some(texts(&page, "#kc-oauth li")?);
        return Ok(Page::Form {
            action: action(here, form)?,
            fields,
            consent,
        });
    }
    let text = if problem.is_empty() {
        texts(&page, "title")?
    } else {
        problem
    };
    Ok(Page::DeadEnd(text.join(" ")))
}

fn enclosing_form(element: ElementRef<'_>) -> Option<ElementRef<'_>> {
    element
        .ancestors()
        .filter_map(ElementRef::wrap)
        .find(|ancestor| ancestor.value().name() == "form")
}

fn action(here: &Url, form: ElementRef<'_>) -> anyhow::Result<Url> {
    Ok(here.join(form.attr("action").context("a form without an action")?)?)
}

fn hidden_fields(form: ElementRef<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let hidden = select("input[type=hidden]")?;
    let fields = form.select(&hidden).filter_map(|input| {
        Some((
            input.attr("name")?.to_owned(),
            input.attr("value").unwrap_or_default().to_owned(),
        ))
    });
    Ok(fields.collect())
}

fn texts(page: &Html, selector: &str) -> anyhow::Result<Vec<String>> {
    let selector = select(selector)?;
    let texts = page.select(&selector).map(|element| {
        let words: Vec<&str> = element.text().flat_map(str::split_whitespace).collect();
        words.join(" ")
    });
    Ok(texts.filter(|text| !text.is_empty()).collect())
}

fn select(selector: &str) -> anyhow::Result<Selector> {
    Selector::parse(selector).map_err(|error| anyhow!("{error}"))
}
