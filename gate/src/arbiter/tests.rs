use mcp_auth_gate_core::token::TokenError;
use serde_json::json;

use super::*;
use crate::testing::{self, AuthorizationServer, CALL, Signer};

/// When the client of a request is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspended {
    Never,
    WhileItsBodyComes,
    OnceItIsJudged,
}

#[tokio::test]
async fn what_is_in_force_at_the_end_decides() {
    for when in [
        Suspended::Never,
        Suspended::WhileItsBodyComes,
        Suspended::OnceItIsJudged,
    ] {
        let signer = Signer::new("one");
        let server = AuthorizationServer::start(Signer::jwks(&[&signer])).await;
        let arbiter = testing::arbiter(&server, &json!({}));
        let token = signer.sign(&testing::claims(&server, &json!({})));
        let headers = testing::headers(&token);
        let suspend = |now: Suspended| {
            if when == now {
                let denied = json!({"deniedClients": ["agent"]});
                arbiter.authorizer.set_policy(testing::policy(&server, &denied));
            }
        };
        let body = async {
            suspend(Suspended::WhileItsBodyComes);
            Read::Whole(CALL)
        };
        let can_pass = |_: &Allowed| {
            suspend(Suspended::OnceItIsJudged);
            Ok(())
        };
        let head = testing::post(&headers);
        let judged = arbiter.judge(Face::ExtAuthz, &head, body, can_pass).await;
        let expected = (when != Suspended::Never).then_some(Reason::Token(TokenError::ClientDenied));
        assert_eq!(judged.err().map(|answer| answer.reason), expected, "{when:?}");
    }
}
