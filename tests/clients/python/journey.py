"""One journey through a server that nobody has set up yet, with hvac as it comes from PyPI.

    journey.py ADDRESS

Ends with status 0 when every step went as hvac's users expect.
"""

import sys

import hvac


def main(address):
    client = hvac.Client(url=address)

    # init and unseal
    assert not client.sys.is_initialized()
    made = client.sys.initialize(secret_shares=3, secret_threshold=2)
    assert client.sys.is_sealed()
    client.sys.submit_unseal_keys(made["keys"][:2])
    assert not client.sys.is_sealed()
    client.token = made["root_token"]
    assert client.is_authenticated()

    # policies
    client.sys.create_or_update_policy(
        name="reader",
        policy='path "secret/data/app/*" { capabilities = ["read", "list"] }',
    )
    assert "reader" in client.sys.list_policies()["data"]["policies"]
    assert "app" in client.sys.read_policy("reader")["data"]["rules"]

    # kv, both versions
    client.sys.enable_secrets_engine("kv", path="secret", options={"version": "2"})
    client.sys.enable_secrets_engine("kv", path="old", options={"version": "1"})
    v2 = client.secrets.kv.v2
    v2.create_or_update_secret("app/db", secret={"user": "ada", "password": "one"})
    v2.patch("app/db", secret={"password": "two"})
    read = v2.read_secret_version("app/db", raise_on_deleted_version=True)["data"]
    assert read["data"] == {"user": "ada", "password": "two"}, read
    assert read["metadata"]["version"] == 2
    assert v2.list_secrets("app")["data"]["keys"] == ["db"]
    v2.delete_secret_versions("app/db", versions=[1])
    v2.undelete_secret_versions("app/db", versions=[1])
    assert v2.read_secret_version("app/db", version=1, raise_on_deleted_version=True)["data"]["data"]["password"] == "one"
    v2.destroy_secret_versions("app/db", versions=[1])
    assert v2.read_secret_metadata("app/db")["data"]["versions"]["1"]["destroyed"]
    v1 = client.secrets.kv.v1
    v1.create_or_update_secret("thing", secret={"a": "b"}, mount_point="old")
    assert v1.read_secret("thing", mount_point="old")["data"] == {"a": "b"}
    v1.delete_secret("thing", mount_point="old")
    try:
        v1.read_secret("thing", mount_point="old")
        raise AssertionError("a deleted secret was read")
    except hvac.exceptions.InvalidPath:
        pass

    # logins, and who logged in
    client.sys.enable_auth_method("userpass")
    client.auth.userpass.create_or_update_user("ada", password="correct horse", policies=["reader"])
    client.sys.enable_auth_method("approle")
    client.auth.approle.create_or_update_approle("robot", token_policies=["reader"], token_ttl="10m")
    role_id = client.auth.approle.read_role_id("robot")["data"]["role_id"]
    secret_id = client.auth.approle.generate_secret_id("robot")["data"]["secret_id"]
    ada = hvac.Client(url=address)
    login = ada.auth.userpass.login("ada", "correct horse")
    assert "reader" in login["auth"]["policies"]
    assert ada.secrets.kv.v2.read_secret_version("app/db", raise_on_deleted_version=True)["data"]["data"]["user"] == "ada"
    robot = hvac.Client(url=address)
    robot.auth.approle.login(role_id, secret_id)
    assert robot.lookup_token()["data"]["ttl"] <= 600
    try:
        robot.secrets.kv.v2.create_or_update_secret("app/db", secret={"no": "no"})
        raise AssertionError("a reader has written")
    except hvac.exceptions.Forbidden:
        pass

    # identity
    entity = ada.lookup_token()["data"]["entity_id"]
    assert entity
    client.secrets.identity.update_entity(entity_id=entity, name="ada-lovelace", metadata={"team": "engines"})
    assert client.secrets.identity.read_entity(entity)["data"]["metadata"] == {"team": "engines"}
    accessor = client.sys.list_auth_methods()["data"]["approle/"]["accessor"]
    client.secrets.identity.create_or_update_entity_alias(name="ada-robot", canonical_id=entity, mount_accessor=accessor)
    found = client.secrets.identity.lookup_entity(alias_name="ada-robot", alias_mount_accessor=accessor)
    assert found["data"]["id"] == entity
    client.sys.create_or_update_policy("writer", 'path "secret/data/app/*" { capabilities = ["create", "update", "read"] }')
    group = client.secrets.identity.create_or_update_group(name="engineers", policies=["writer"], member_entity_ids=[entity])
    assert group["data"]["id"]
    # A group's policy counts for a token that is there already.
    ada.secrets.kv.v2.create_or_update_secret("app/db", secret={"user": "ada", "password": "three"})

    # transit
    client.sys.enable_secrets_engine("transit")
    transit = client.secrets.transit
    transit.create_key("orders")
    sealed = transit.encrypt_data("orders", plaintext="aGVsbG8=")["data"]["ciphertext"]
    assert sealed.startswith("vault:v1:")
    transit.rotate_key("orders")
    again = transit.rewrap_data("orders", ciphertext=sealed)["data"]["ciphertext"]
    assert again.startswith("vault:v2:")
    assert transit.decrypt_data("orders", ciphertext=again)["data"]["plaintext"] == "aGVsbG8="
    transit.create_key("signer", key_type="ed25519")
    signature = transit.sign_data("signer", hash_input="aGVsbG8=")["data"]["signature"]
    assert transit.verify_signed_data("signer", hash_input="aGVsbG8=", signature=signature)["data"]["valid"]
    assert not transit.verify_signed_data("signer", hash_input="aGVsbG9v", signature=signature)["data"]["valid"]

    # wrapping
    wrapped = client.sys.wrap({"answer": "42"}, ttl=60)["wrap_info"]["token"]
    assert client.sys.unwrap(wrapped)["data"] == {"answer": "42"}
    try:
        client.sys.unwrap(wrapped)
        raise AssertionError("a wrapping token was used twice")
    except (hvac.exceptions.InvalidRequest, hvac.exceptions.Forbidden):
        pass

    # tokens, renewed and revoked
    child = client.auth.token.create(policies=["reader"], ttl="1h", meta={"for": "a test"})["auth"]
    kid = hvac.Client(url=address, token=child["client_token"])
    assert kid.lookup_token()["data"]["meta"] == {"for": "a test"}
    assert kid.auth.token.renew_self(increment="2h")["auth"]["lease_duration"] == 7200
    client.auth.token.revoke_accessor(child["accessor"])
    assert not kid.is_authenticated()
    assert client.sys.list_leases("auth/userpass/login/ada")["data"]["keys"]
    client.sys.revoke_prefix("auth/userpass/login/ada")
    assert not ada.is_authenticated()
    robot.logout(revoke_token=True)

    client.sys.seal()
    assert client.sys.is_sealed()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
    print("hvac")
