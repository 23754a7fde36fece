//! `bind_with_keytab`: the directory's SASL GSSAPI exchange, spoken with the method's own keytab. The
//! directory knows no Kerberos and Kerberos knows no LDAP; here they meet.

use std::sync::{Arc, Mutex, PoisonError};

use obol_directory::{SaslError, SaslGssapi, SaslServer, SaslSource};
use obol_kerberos::{ChannelBindings, InitiateError, Initiator, Keytab, SaslClient, SecurityLayer};
use obol_mount::Result;

/// A source of exchanges that proves itself with these keys, those of the service account.
pub(super) fn source(keys: &Keytab) -> Result<Arc<dyn SaslSource>> {
    Ok(Arc::new(WithKeytab {
        keys: keys.clone(),
        initiator: Mutex::default(),
    }))
}

struct WithKeytab {
    keys: Keytab,
    /// Made at the first bind, because it asks the KDC; it keeps its tickets and renews them.
    initiator: Mutex<Option<Arc<Initiator>>>,
}

impl SaslSource for WithKeytab {
    fn name(&self) -> String {
        let entries = self.keys.entries();
        // The choice of `Initiator::from_keytab_bytes`: an account's own name before a service's.
        let account = entries
            .iter()
            .find(|entry| entry.principal().components().len() == 1)
            .or(entries.first());
        account.map_or_else(String::new, |entry| entry.principal().to_string())
    }

    fn start(&self, server: &SaslServer) -> std::result::Result<Box<dyn SaslGssapi>, SaslError> {
        let initiator = self.initiator().map_err(fault)?;
        let layer = if server.over_tls {
            SecurityLayer::None
        } else {
            SecurityLayer::Confidentiality
        };
        let bindings = server
            .channel_binding
            .as_deref()
            .map(ChannelBindings::from_bytes);
        let spn = format!("ldap/{}", server.host);
        let client = initiator
            .sasl(&spn, &[layer], bindings.as_ref())
            .map_err(fault)?;
        Ok(Box::new(Exchange(client)))
    }
}

impl WithKeytab {
    fn initiator(&self) -> std::result::Result<Arc<Initiator>, InitiateError> {
        // Nothing is half-made when a thread dies here.
        let mut kept = self
            .initiator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(initiator) = &*kept {
            return Ok(initiator.clone());
        }
        let made = Arc::new(Initiator::from_keytab_bytes(&self.keys, None)?);
        *kept = Some(made.clone());
        Ok(made)
    }
}

struct Exchange(SaslClient);

impl SaslGssapi for Exchange {
    fn step(&mut self, challenge: Option<&[u8]>) -> std::result::Result<Vec<u8>, SaslError> {
        self.0.step(challenge).map_err(fault)
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn has_layer(&self) -> bool {
        self.0
            .layer()
            .is_some_and(|layer| layer != SecurityLayer::None)
    }

    fn max_send(&self) -> usize {
        self.0.max_message()
    }

    fn max_receive(&self) -> usize {
        SaslClient::MAX_WRAPPED
    }

    fn wrap(&mut self, plain: &[u8]) -> std::result::Result<Vec<u8>, SaslError> {
        self.0.wrap(plain).map_err(fault)
    }

    fn unwrap(&mut self, sealed: &[u8]) -> std::result::Result<Vec<u8>, SaslError> {
        self.0.unwrap(sealed).map_err(fault)
    }
}

fn fault(error: InitiateError) -> SaslError {
    SaslError {
        cause: error.to_string(),
        mend: error.mend().to_owned(),
        is_unavailable: matches!(error, InitiateError::KdcUnreachable { .. }),
    }
}
