//! The pages that users see, as plain as they can be. A login page has a form with a password; a consent page lists what
//! is asked for and has two buttons; anything else is an error page.

/// The login page, perhaps with what was wrong with the last try.
pub(super) fn login(state: &str, problem: Option<&str>) -> String {
    let problem = problem.map(|text| format!("<p class=\"error-message\">{}</p>", escaped(text)));
    page(
        "Log in",
        &format!(
            "{}<form id=\"auth0-login\" method=\"post\" action=\"/u/login?state={state}\">\
             <input type=\"hidden\" name=\"state\" value=\"{state}\">\
             <input name=\"username\"><input name=\"password\" type=\"password\">\
             <button name=\"action\" value=\"default\">Continue</button></form>",
            problem.unwrap_or_default()
        ),
    )
}

/// The consent page.
pub(super) fn consent(state: &str, client: &str, asked: &[String]) -> String {
    let items: Vec<String> = asked
        .iter()
        .map(|text| format!("<li>{}</li>", escaped(text)))
        .collect();
    let list = items.concat();
    page(
        "Authorize App",
        &format!(
            "<p>{} wants to access your account.</p><ul id=\"auth0-consent\">{list}</ul>\
             <form method=\"post\" action=\"/u/consent?state={state}\">\
             <input type=\"hidden\" name=\"state\" value=\"{state}\">\
             <button name=\"action\" value=\"accept\">Accept</button>\
             <button name=\"action\" value=\"cancel\">Decline</button></form>",
            escaped(client)
        ),
    )
}

/// Where a login ends that goes wrong.
pub(super) fn problem(text: &str) -> String {
    page(
        "Oops!, something went wrong",
        &format!("<p class=\"error-message\">{}</p>", escaped(text)),
    )
}

fn page(title: &str, body: &str) -> String {
    format!("<!doctype html><html><head><title>{title}</title></head><body>{body}</body></html>")
}

/// Names of clients and descriptions of scopes are other people's text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
