//! How what is private, and times, are written into the journal.

/// A credential, in the open: the journal is a Secret.
pub(in crate::credential) mod credential {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::provider::Credential;

    pub(in crate::credential) fn serialize<S: Serializer>(
        value: &Credential,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.expose())
    }

    pub(in crate::credential) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Credential, D::Error> {
        String::deserialize(from).map(Credential::new)
    }
}

/// The same where there may be none.
pub(in crate::credential) mod credentials {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use crate::provider::Credential;

    #[allow(clippy::ref_option, reason = "serde wants it so")]
    pub(in crate::credential) fn serialize<S: Serializer>(
        value: &Option<Credential>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Credential::expose).serialize(to)
    }

    pub(in crate::credential) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Credential>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Credential::new))
    }
}

/// A time (RFC 3339).
pub(in crate::credential) mod time {
    use k8s_openapi::jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in crate::credential) fn serialize<S: Serializer>(
        value: &Timestamp,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(in crate::credential) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Timestamp, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// The same where there may be none.
pub(in crate::credential) mod times {
    use k8s_openapi::jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    #[allow(clippy::ref_option, reason = "serde wants it so")]
    pub(in crate::credential) fn serialize<S: Serializer>(
        value: &Option<Timestamp>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|time| time.to_string()).serialize(to)
    }

    pub(in crate::credential) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}
