//! Java's login modules: `sasl.jaas.config`, in librdkafka's settings.

use std::{iter::Peekable, str::Chars};

/// What a login module stands for, by librdkafka's names; or why it cannot be read, without any value of it.
pub(crate) fn settings(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let (module, options) = entry(text).ok_or(
        "this is no login module. Write `sasl.username` and `sasl.password`, or \
         `org.apache.kafka.common.security.plain.PlainLoginModule required username=… password=…;`",
    )?;
    let module = module.rsplit('.').next().unwrap_or_default();
    let known: &[(&str, &str)] = match module {
        "PlainLoginModule" | "ScramLoginModule" => {
            &[("username", "sasl.username"), ("password", "sasl.password")]
        }
        "OAuthBearerLoginModule" => &[
            ("clientId", "sasl.oauthbearer.client.id"),
            ("clientSecret", "sasl.oauthbearer.client.secret"),
            ("scope", "sasl.oauthbearer.scope"),
        ],
        "Krb5LoginModule" => {
            return Err(
                "librdkafka has no login modules; for Kerberos it has `sasl.kerberos.service.name`, \
                 `sasl.kerberos.principal` and `sasl.kerberos.keytab`"
                    .to_owned(),
            );
        }
        _ => {
            return Err(
                "librdkafka has no such login module: it knows PLAIN and SCRAM (`sasl.username`, `sasl.password`), \
                 OAUTHBEARER (`sasl.oauthbearer.…`) and Kerberos (`sasl.kerberos.…`)"
                    .to_owned(),
            );
        }
    };
    let mut settings = Vec::new();
    if module == "OAuthBearerLoginModule" {
        settings.push(("sasl.oauthbearer.method", "oidc".to_owned()));
    }
    for (name, value) in options {
        match known.iter().find(|(java, _)| *java == name) {
            Some((_, setting)) => settings.push((setting, value)),
            None => {
                let names: Vec<&str> = known.iter().map(|(java, _)| *java).collect();
                let names = names.join(", ");
                return Err(format!("an option of the login module is none of {names}"));
            }
        }
    }
    Ok(settings)
}

/// `module flag name=value …;`, once.
fn entry(text: &str) -> Option<(String, Vec<(String, String)>)> {
    let mut rest = text.chars().peekable();
    let module = word(&mut rest)?;
    let flag = word(&mut rest)?.to_lowercase();
    if !["required", "requisite", "sufficient", "optional"].contains(&flag.as_str()) {
        return None;
    }
    let mut options = Vec::new();
    loop {
        skip_blanks(&mut rest);
        if rest.next_if_eq(&';').is_some() {
            break;
        }
        let name = word(&mut rest)?;
        skip_blanks(&mut rest);
        rest.next_if_eq(&'=')?;
        skip_blanks(&mut rest);
        let value = match rest.peek()? {
            '"' | '\'' => quoted(&mut rest)?,
            _ => word(&mut rest)?,
        };
        options.push((name, value));
    }
    skip_blanks(&mut rest);
    rest.next().is_none().then_some((module, options))
}

fn skip_blanks(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| c.is_whitespace()).is_some() {}
}

/// Up to a blank, `=` or `;`.
fn word(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    skip_blanks(rest);
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| !c.is_whitespace() && !matches!(c, '=' | ';' | '"' | '\'')) {
        word.push(c);
    }
    (!word.is_empty()).then_some(word)
}

/// Between two quotes, with Java's `\`.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let quote = rest.next()?;
    let mut text = String::new();
    loop {
        match rest.next()? {
            c if c == quote => return Some(text),
            '\\' => text.push(match rest.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                c => c,
            }),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::settings;

    #[test]
    fn user_and_password_are_taken_from_javas_login_module() {
        let both = |user: &str, password: &str| {
            vec![
                ("sasl.username", user.to_owned()),
                ("sasl.password", password.to_owned()),
            ]
        };
        for (text, wanted) in [
            (
                r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p;=\"x";"#,
                both("u", "p;=\"x"),
            ),
            (
                "org.apache.kafka.common.security.scram.ScramLoginModule REQUIRED\n  username = 'u'\n  password = p ;\n",
                both("u", "p"),
            ),
        ] {
            assert_eq!(settings(text).unwrap(), wanted);
        }
        let token = r#"x.OAuthBearerLoginModule required clientId="a" clientSecret="b" scope="c";"#;
        assert_eq!(
            settings(token).unwrap()[0],
            ("sasl.oauthbearer.method", "oidc".to_owned())
        );
        assert_eq!(
            settings(token).unwrap()[2],
            ("sasl.oauthbearer.client.secret", "b".to_owned())
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_values() {
        for text in [
            "",
            "hunter2",
            "a.PlainLoginModule required username=\"u\" password=\"hunter2\"",
            "a.PlainLoginModule required password=\"hunter2",
            "a.PlainLoginModule hunter2 username=u;",
            "a.PlainLoginModule required hunter2=u;",
            "com.sun.security.auth.module.Krb5LoginModule required keyTab=\"hunter2\";",
            "software.amazon.msk.auth.iam.IAMLoginModule required;",
            "a.PlainLoginModule required username=u; b.PlainLoginModule required password=hunter2;",
        ] {
            let reason = settings(text).unwrap_err();
            assert!(
                !reason.contains("hunter2") && reason.contains("module"),
                "{text}: {reason}"
            );
        }
    }
}
