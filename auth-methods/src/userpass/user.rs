//! Users: who there is, under names that do not differ by case alone (threats: `alias-case`), and what operators do
//! with them.
//!
//! Layout: `user/NAME` holds a user.

use obol_mount::fields::{CommaList, Count, OlderTokenFields, StoredTokenFields, TokenFields};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Secret, TokenParams};
use obol_storage::{Seen, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hash::PasswordHash;
use super::{Userpass, pool};
use crate::names;

/// The users of a mount.
pub(super) struct Users {
    view: View,
}

/// A user as they rest.
#[derive(Serialize, Deserialize)]
pub(super) struct User {
    pub(super) hash: PasswordHash,
    /// Another one for each password that is set: by it a renewal knows whether the token's is still the one.
    pub(super) password_id: String,
    token: StoredTokenFields,
}

/// What a login finds for a name.
pub(super) struct Found {
    /// The user of this name.
    pub(super) user: Option<(User, Seen)>,
    /// The cost that the check must have.
    pub(super) cost: PasswordHash,
}

/// A checked name, folded.
#[derive(Clone)]
pub(super) struct UserName(String);

impl Users {
    pub(super) fn new(view: View) -> Self {
        Self { view }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    pub(super) async fn read(&self, name: &UserName) -> Result<Option<User>> {
        Ok(self.view.get_json(&name.path()).await?)
    }

    /// The user of a name, or else whose hash costs what theirs would: that of the next name. Some hashes were
    /// brought along and cost more or less than our own, so a fixed cost would tell names that nobody has
    /// (threats: `timing-user`).
    pub(super) async fn find(&self, name: &UserName) -> Result<Found> {
        let path = name.path();
        let mut next = self.view.scan(&path, Some(FOLDER_END), 1).await?;
        if next.is_empty() {
            next = self.view.scan(FOLDER, Some(FOLDER_END), 1).await?;
        }
        let Some((found, entry)) = next.pop() else {
            return Ok(Found {
                user: None,
                cost: PasswordHash::none(),
            });
        };
        let user: User = self.view.parse(&found, &entry)?;
        Ok(Found {
            cost: user.hash.clone(),
            user: (found == path).then_some((user, entry.seen)),
        })
    }

    /// Keeps another hash of the same password, and returns the user as they rest now. Of several logins that do this at
    /// once one does it, and all go on; `None` when the password was changed meanwhile.
    pub(super) async fn renew_hash(
        &self,
        name: &UserName,
        user: &User,
        hash: PasswordHash,
    ) -> Result<Option<(User, Seen)>> {
        self.change(name, |stored| {
            if stored.password_id == user.password_id && stored.hash.is_foreign() {
                stored.hash = hash.clone();
            }
            Ok(())
        })
        .await?;
        let now = self.find(name).await?.user;
        Ok(now.filter(|(now, _)| now.password_id == user.password_id))
    }

    /// Changes a user that there is.
    async fn change(
        &self,
        name: &UserName,
        change: impl Fn(&mut User) -> Result<()>,
    ) -> Result<()> {
        let change = |user: Option<User>| {
            let mut user =
                user.ok_or_else(|| Error::not_found_because("username does not exist"))?;
            change(&mut user)?;
            Ok::<_, Error>(user)
        };
        self.view.update_json(&name.path(), change).await.map(drop)
    }
}

impl User {
    pub(super) fn token(&self) -> TokenParams {
        self.token.clone().into()
    }

    fn set_password(&mut self, hash: PasswordHash) {
        self.hash = hash;
        self.password_id = Uuid::new_v4().to_string();
    }
}

impl UserName {
    pub(super) fn parse(text: &str) -> Result<Self> {
        names::fold("username", text).map(Self)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn path(&self) -> String {
        format!("{FOLDER}{}", self.0)
    }
}

/// A page of the listing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ListInput {
    /// Start after this name.
    after: Option<String>,
    /// At most so many names.
    limit: Option<Count>,
}

/// A user by their name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NameInput {
    /// The name; upper and lower case are the same.
    username: String,
}

/// A user; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
pub(super) struct UserInput {
    /// The name; upper and lower case are the same.
    username: String,
    /// The password: needed for a new user, unless there is a password_hash.
    password: Option<Secret>,
    /// A bcrypt hash of the password in its text form, instead of the password.
    password_hash: Option<Secret>,
    #[serde(flatten)]
    token: TokenFields,
    #[serde(flatten)]
    older: OlderTokenFields,
}

/// A new password.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PasswordInput {
    /// The name; upper and lower case are the same.
    username: String,
    /// The password.
    password: Option<Secret>,
    /// A bcrypt hash of the password in its text form, instead of the password.
    password_hash: Option<Secret>,
}

/// The policies of a user.
#[derive(Deserialize, JsonSchema)]
pub(super) struct PoliciesInput {
    /// The name; upper and lower case are the same.
    username: String,
    /// The policies of the user's tokens.
    token_policies: Option<CommaList>,
    /// Older name of token_policies.
    #[schemars(extend("x-aliases" = ["token_policies"]))]
    policies: Option<CommaList>,
}

pub(super) async fn list(cx: Cx<Userpass>, input: ListInput) -> Result<Keys> {
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    let view = cx.users.view();
    let keys = view.list(FOLDER, input.after.as_deref(), limit).await?;
    Ok(Keys { keys })
}

pub(super) async fn read(
    cx: Cx<Userpass>,
    input: NameInput,
) -> Result<Option<Data<StoredTokenFields>>> {
    let user = cx.users.read(&UserName::parse(&input.username)?).await?;
    Ok(user.map(|user| Data(user.token)))
}

pub(super) async fn exists(cx: Cx<Userpass>, input: NameInput) -> Result<bool> {
    let name = UserName::parse(&input.username)?;
    Ok(cx.users.view().get(&name.path()).await?.is_some())
}

pub(super) async fn write(cx: Cx<Userpass>, input: UserInput) -> Result<NoContent> {
    let name = UserName::parse(&input.username)?;
    let fields = input.token.or_older(&input.older);
    let hash = hash_of(input.password, input.password_hash).await?;
    let change = |user: Option<User>| {
        let mut user = match (user, &hash) {
            (Some(mut user), Some(hash)) => {
                user.set_password(hash.clone());
                user
            }
            (Some(user), None) => user,
            (None, Some(hash)) => User {
                hash: hash.clone(),
                password_id: Uuid::new_v4().to_string(),
                token: StoredTokenFields::default(),
            },
            (None, None) => return Err(Error::bad_request("missing password")),
        };
        let mut params = user.token();
        fields.clone().apply(&mut params)?;
        user.token = StoredTokenFields::from(&params);
        Ok(user)
    };
    cx.users.view().update_json(&name.path(), change).await?;
    Ok(NoContent)
}

pub(super) async fn delete(cx: Cx<Userpass>, input: NameInput) -> Result<NoContent> {
    let name = UserName::parse(&input.username)?;
    cx.users.view().delete(&name.path()).await?;
    Ok(NoContent)
}

pub(super) async fn set_password(cx: Cx<Userpass>, input: PasswordInput) -> Result<NoContent> {
    let name = UserName::parse(&input.username)?;
    let hash = hash_of(input.password, input.password_hash).await?;
    let hash = hash.ok_or_else(|| Error::bad_request("missing password"))?;
    cx.users
        .change(&name, |user| {
            user.set_password(hash.clone());
            Ok(())
        })
        .await?;
    Ok(NoContent)
}

pub(super) async fn set_policies(cx: Cx<Userpass>, input: PoliciesInput) -> Result<NoContent> {
    let name = UserName::parse(&input.username)?;
    let fields = TokenFields {
        token_policies: input.token_policies.or(input.policies),
        ..TokenFields::default()
    };
    if fields.token_policies.is_none() {
        return Err(Error::bad_request(
            "missing required field \"token_policies\"",
        ));
    }
    cx.users
        .change(&name, |user| {
            let mut params = user.token();
            fields.clone().apply(&mut params)?;
            user.token = StoredTokenFields::from(&params);
            Ok(())
        })
        .await?;
    Ok(NoContent)
}

/// The hash of the password that was sent, if one was, in either form.
async fn hash_of(
    password: Option<Secret>,
    brought: Option<Secret>,
) -> Result<Option<PasswordHash>> {
    let given = |secret: &Secret| !secret.is_empty();
    match (password.filter(given), brought.filter(given)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Error::bad_request(
            "password and password_hash: send one of them",
        )),
        (Some(password), None) => {
            check_length(&password)?;
            pool::run(move || PasswordHash::new(&password))
                .await
                .map(Some)
        }
        (None, Some(brought)) => PasswordHash::brought(&brought).map(Some),
    }
}

/// A password is hashed whole; one without end would be work without end.
pub(super) fn check_length(password: &Secret) -> Result<()> {
    match password.expose().len() {
        0..=MAX_PASSWORD => Ok(()),
        _ => Err(Error::bad_request(format!(
            "password: it may not be longer than {MAX_PASSWORD} bytes"
        ))),
    }
}

const FOLDER: &str = "user/";
/// Behind everything in the folder: `0` follows `/`.
const FOLDER_END: &str = "user0";
/// In bytes.
const MAX_PASSWORD: usize = 4096;
