//! One row of the table: what is sent with which token, and what must come of it.

use mcp_auth_e2e::gate::keys;
use serde_json::{Value, json};

use super::scene::{RESOURCE, Scene};

/// The page of the resource's own origin.
pub(crate) const OWN_PAGE: &str = "https://mcp.example";

/// What stands for the token of a row in whatever is sent.
pub(crate) const TOKEN: &str = "{token}";
/// What stands for the signature of that token.
pub(crate) const SIGNATURE: &str = "{signature}";

/// A row.
pub(crate) struct Case {
    /// What the row shows; no other row has the same.
    pub(crate) why: &'static str,
    pub(crate) token: Token,
    pub(crate) request: Request,
    pub(crate) expect: Expect,
    pub(crate) envoy: Option<(Expect, Difference)>,
    pub(crate) traefik: Option<(Expect, Difference)>,
}

/// The token of a row.
pub(crate) enum Token {
    /// A good one with these scopes.
    With(&'static str),
    /// One for reading of which this claim is changed; null takes it away.
    Claim(&'static str, fn(&Scene) -> Value),
    /// One for reading of which this field of the header is changed; null takes it away.
    Header(&'static str, Value),
    /// Anything else.
    Made(fn(&Scene) -> anyhow::Result<String>),
}

/// What is sent.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
}

/// How the body is sent.
#[derive(Clone)]
pub(crate) enum Framing {
    /// With its length.
    Length,
    /// Without any word of it.
    Nothing,
    /// In chunks of so many bytes.
    Chunks(usize),
    /// Behind these headers of framing, as it is.
    As(&'static [(&'static str, &'static str)]),
    /// The body is all that is sent; `{case}` in it is the number of the row.
    Raw,
}

/// What must come of it.
#[derive(Clone)]
pub(crate) enum Expect {
    /// The server gets it, byte for byte, without these headers and with those.
    Passes {
        gone: Vec<&'static str>,
        kept: Vec<(&'static str, &'static str)>,
    },
    /// The gate answers, and the server gets nothing.
    Answers {
        status: u16,
        challenge: Challenge,
        code: Option<i32>,
    },
    /// The metadata.
    Metadata,
    /// Leave to send the request on.
    Leave,
    /// Whoever stands in front answers with one of these, and the server gets nothing.
    Front(&'static [u16]),
    /// Answers with these statuses in their order, of which the good ones came from the server.
    Several(&'static [u16]),
}

/// What `WWW-Authenticate` says.
#[derive(Clone, Copy)]
pub(crate) enum Challenge {
    Absent,
    /// No token came.
    Missing,
    /// A token came twice, or at the wrong place.
    Place,
    /// The token is not accepted, for this reason.
    Invalid(&'static str),
    /// These scopes are needed.
    Scope(&'static str),
}

/// Why a face cannot do what the proxy does. Each is explained in the documentation, under this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// An engine answers by itself what it takes for no request.
    OwnRefusal,
    /// An engine puts the path into another form before it asks, and sends that form on.
    NormalPath,
    /// A body that is too large is refused by the engine, without the gate's headers.
    TooLarge,
    /// An engine is content with bytes in a head that are no header, and sends on what it made of them.
    OwnReading,
    /// An engine answers requests for another protocol by itself, or takes the request for it away.
    Upgrades,
    /// Sessions are the server's own: nobody seals their ids.
    Sessions,
    /// An engine joins headers of one name before it asks.
    HeadersJoined,
    /// An engine takes away what `Connection` names before it asks.
    ConnectionHeaders,
    /// The engine cannot take away a header that it does not know of, so the request is refused.
    HoldsToken,
}

impl Difference {
    /// Whether it lies in the face of the gate, and not in the engine before it.
    pub(crate) fn is_of_the_face(self) -> bool {
        matches!(self, Self::HoldsToken | Self::Sessions)
    }
}

impl Case {
    /// A ping by somebody who may read notes, to begin with.
    pub(crate) fn new(why: &'static str) -> Self {
        let headers = [
            ("host", "mcp.example"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("authorization", "Bearer {token}"),
        ];
        Self {
            why,
            token: Token::With(READER),
            request: Request {
                method: "POST",
                target: "/a/mcp".to_owned(),
                headers: headers
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .to_vec(),
                body: PING.into(),
                framing: Framing::Length,
            },
            expect: passes(),
            envoy: None,
            traefik: None,
        }
    }

    /// A request without token and body.
    pub(crate) fn bare(why: &'static str, method: &'static str, target: &str) -> Self {
        let case = Self::new(why)
            .method(method)
            .target(target)
            .body("")
            .framing(Framing::Nothing);
        case.without("authorization").without("content-type")
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.request.method = method;
        self
    }

    pub(crate) fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.request.target);
        self
    }

    pub(crate) fn token(mut self, token: Token) -> Self {
        self.token = token;
        self
    }

    pub(crate) fn scopes(self, scopes: &'static str) -> Self {
        self.token(Token::With(scopes))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.request
            .headers
            .retain(|(header, _)| !header.eq_ignore_ascii_case(name));
        self
    }

    /// Another value for a header.
    pub(crate) fn set(self, name: &str, value: &str) -> Self {
        self.without(name).header(name, value)
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request.body = body.into();
        self
    }

    /// A call of a tool.
    pub(crate) fn call(self, tool: &str) -> Self {
        self.body(call(tool))
    }

    /// A message with these parameters for `tools/call`.
    pub(crate) fn call_with(self, params: &str) -> Self {
        self.body(format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#
        ))
    }

    /// On the wire without sessions, with these headers about the body.
    pub(crate) fn stateless(self, headers: &[(&str, &str)]) -> Self {
        let case = self.header("mcp-protocol-version", "2026-07-28");
        headers
            .iter()
            .fold(case, |case, (name, value)| case.header(name, value))
    }

    pub(crate) fn framing(mut self, framing: Framing) -> Self {
        self.request.framing = framing;
        self
    }

    pub(crate) fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// The gate answers so.
    pub(crate) fn answers(self, status: u16, challenge: Challenge, code: i32) -> Self {
        let code = Some(code);
        self.expect(Expect::Answers {
            status,
            challenge,
            code,
        })
    }

    /// 400 with this code and no challenge.
    pub(crate) fn bad(self, code: i32) -> Self {
        self.answers(400, Challenge::Absent, code)
    }

    /// 401: the token is not accepted, for this reason.
    pub(crate) fn invalid(self, why: &'static str) -> Self {
        self.answers(401, Challenge::Invalid(why), REFUSED)
    }

    /// 403: these scopes are needed.
    pub(crate) fn needs(self, scopes: &'static str) -> Self {
        self.answers(403, Challenge::Scope(scopes), REFUSED)
    }

    pub(crate) fn not_found(self) -> Self {
        self.answers(404, Challenge::Absent, REFUSED)
    }

    /// The server gets it without these headers.
    pub(crate) fn passes_without(self, gone: &[&'static str]) -> Self {
        let (gone, kept) = (gone.to_vec(), Vec::new());
        self.expect(Expect::Passes { gone, kept })
    }

    /// The server gets it with these headers.
    pub(crate) fn passes_with(self, kept: &[(&'static str, &'static str)]) -> Self {
        let (gone, kept) = (Vec::new(), kept.to_vec());
        self.expect(Expect::Passes { gone, kept })
    }

    pub(crate) fn envoy(mut self, difference: Difference, expect: Expect) -> Self {
        self.envoy = Some((expect, difference));
        self
    }

    pub(crate) fn traefik(mut self, difference: Difference, expect: Expect) -> Self {
        self.traefik = Some((expect, difference));
        self
    }

    /// The same with both engines.
    pub(crate) fn engines(self, difference: Difference, expect: &Expect) -> Self {
        self.envoy(difference, expect.clone())
            .traefik(difference, expect.clone())
    }
}

/// The scopes of somebody who may read notes and not write them.
const READER: &str = "mcp:use notes:read";

pub(crate) const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;
/// The code of refusals that are not about the message.
pub(crate) const REFUSED: i32 = -32001;
pub(crate) const NOT_JSON: i32 = -32700;
pub(crate) const NOT_A_MESSAGE: i32 = -32600;
pub(crate) const NO_NAME: i32 = -32602;
pub(crate) const MISMATCH: i32 = -32020;
pub(crate) const VERSION: i32 = -32022;

pub(crate) fn passes() -> Expect {
    Expect::Passes {
        gone: Vec::new(),
        kept: Vec::new(),
    }
}

pub(crate) fn call(tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool}}).to_string()
}

impl Token {
    /// Makes it.
    pub(crate) fn mint(&self, scene: &Scene) -> anyhow::Result<String> {
        let issuer = &scene.issuer;
        match self {
            Self::With(scopes) => issuer.sign(&issuer.claims(RESOURCE, scopes)?),
            Self::Claim(claim, value) => {
                let claims = issuer.claims(RESOURCE, READER)?;
                issuer.sign(&changed(claims, claim, value(scene)))
            }
            Self::Header(field, value) => {
                let key = issuer.ec_key();
                let header = changed(key.header(), field, value.clone());
                key.sign(&header, &issuer.claims(RESOURCE, READER)?)
            }
            Self::Made(make) => make(scene),
        }
    }
}

fn changed(mut object: Value, field: &str, value: Value) -> Value {
    object[field] = value;
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// A token that nobody signed.
pub(crate) fn unsigned(scene: &Scene) -> anyhow::Result<String> {
    let claims = scene.issuer.claims(RESOURCE, "mcp:use notes:read notes:write")?;
    let header = json!({"alg": "none", "typ": "at+jwt"});
    Ok(keys::unsigned(&header, &claims) + ".")
}
