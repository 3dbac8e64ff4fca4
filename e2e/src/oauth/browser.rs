//! A browser in front of the login and consent pages of Keycloak, of the stand-in for Auth0 and of oidc-provider:
//! redirects, cookies, forms.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail, ensure};
use http::header::LOCATION;
use scraper::{ElementRef, Html, Selector};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::pki::Trust;

/// More pages than any login has.
const MOST_PAGES: usize = 12;

/// A browser with somebody in front of it, who signs in and gives consent when asked. It keeps its cookies: a second
/// login needs no password.
pub struct Browser {
    http: reqwest::Client,
    username: String,
    password: SecretString,
}

/// Where a login led.
pub struct Arrival {
    /// The redirect URI with the answer for the client, which holds a code: not to be printed.
    pub(super) url: Url,
    /// What the user was asked to consent to, in the words of the page; None when there was no such page.
    pub consent: Option<Vec<String>>,
    /// Whether the user had to give the password.
    pub password: bool,
}

/// What the browser has in front of it.
enum Page {
    /// A form to send, and the consent that it asks for; None: it asks for the password.
    Form {
        action: Url,
        fields: BTreeMap<String, String>,
        consent: Option<Vec<String>>,
    },
    /// Nothing to go on with; the text that the user reads.
    DeadEnd(String),
}

impl Browser {
    /// A browser that nobody has signed in with yet.
    pub fn new(trust: &Trust, username: &str, password: &SecretString) -> anyhow::Result<Self> {
        Ok(Self {
            http: trust.http_client()?.cookie_store(true).build()?,
            username: username.to_owned(),
            password: password.clone(),
        })
    }

    /// Opens the page that a client sent the user to, and comes back to where the client listens.
    pub async fn visit(&self, start: &str) -> anyhow::Result<Arrival> {
        let start = Url::parse(start).context("a client sent the user to what is no URL")?;
        let redirect_uri = start.query_pairs().find(|(name, _)| name == "redirect_uri");
        let redirect_uri = redirect_uri
            .context("a client named no redirect_uri")?
            .1
            .into_owned();
        let arrival = self.walk(start, &redirect_uri).await?;
        let answer = self.http.get(arrival.url.clone()).send().await;
        // Its error would show the code.
        let status = answer
            .map_err(|error| anyhow!("the client does not listen: {}", error.without_url()))?
            .status();
        ensure!(
            status.is_success(),
            "the client answered {status} to a browser that came back"
        );
        Ok(arrival)
    }

    /// Opens a page from which no client gets its user back, as that of a device. Gives what the last page says.
    pub async fn follow(&self, start: &str) -> anyhow::Result<String> {
        let start = Url::parse(start).context("that is no URL")?;
        match self.walk(start, "nowhere:").await {
            Ok(_) => bail!("it leads back"),
            Err(end) => Ok(end.to_string()),
        }
    }

    /// Goes on from page to page until one leads to `redirect_uri`, where it does not go itself.
    pub(super) async fn walk(&self, start: Url, redirect_uri: &str) -> anyhow::Result<Arrival> {
        let mut next = self.http.get(start);
        let (mut consent, mut password) = (None, false);
        for _ in 0..MOST_PAGES {
            let response = next
                .send()
                .await
                .context("the authorization server does not answer")?;
            let here = response.url().clone();
            if let Some(location) = response.headers().get(LOCATION) {
                let url = here.join(location.to_str()?)?;
                if url.as_str().starts_with(redirect_uri) {
                    return Ok(Arrival {
                        url,
                        consent,
                        password,
                    });
                }
                next = self.http.get(url);
                continue;
            }
            let status = response.status();
            match read_page(&here, &response.text().await?, self)? {
                Page::Form {
                    action,
                    fields,
                    consent: asked,
                } => {
                    password |= asked.is_none();
                    consent = asked.or(consent);
                    next = self.http.post(action).form(&fields);
                }
                Page::DeadEnd(text) => bail!("the login ends at a page ({status}) that says: {text}"),
            }
        }
        bail!("the login is not over after {MOST_PAGES} pages")
    }
}

/// Finds the form that a user would send next, and fills it in.
fn read_page(here: &Url, html: &str, user: &Browser) -> anyhow::Result<Page> {
    let page = Html::parse_document(html);
    let problem = texts(
        &page,
        "#input-error, .kc-feedback-text, #kc-error-message, .error-message",
    )?;
    let (login, consent) = (
        select("form#kc-form-login, form#auth0-login, form#oidc-provider-login")?,
        select("input[name=accept], button[name=accept], button[name=action][value=accept]")?,
    );
    if let Some(form) = page.select(&login).next() {
        if !problem.is_empty() {
            return Ok(Page::DeadEnd(problem.join(" ")));
        }
        let mut fields = hidden_fields(form)?;
        fields.insert("username".to_owned(), user.username.clone());
        fields.insert("password".to_owned(), user.password.expose_secret().to_owned());
        return Ok(Page::Form {
            action: action(here, form)?,
            fields,
            consent: None,
        });
    }
    let button = page.select(&consent).next();
    if let Some((button, form)) = button.and_then(|button| Some((button, enclosing_form(button)?))) {
        let mut fields = hidden_fields(form)?;
        let (name, value) = (button.attr("name"), button.attr("value"));
        fields.insert(
            name.unwrap_or("accept").to_owned(),
            value.unwrap_or("Yes").to_owned(),
        );
        let consent = Some(texts(
            &page,
            "#kc-oauth li, #auth0-consent li, #oidc-provider-consent li",
        )?);
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
