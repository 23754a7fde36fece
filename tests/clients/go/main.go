// One journey through a server that nobody has set up yet, with the Go client of Vault's API, unmodified.
//
//	go run . ADDRESS
//
// Ends with status 0 when every step went as the module's users expect.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"
)

func main() {
	log.SetFlags(log.Lshortfile)
	if len(os.Args) != 2 {
		log.Fatal("usage: go run . ADDRESS")
	}
	journey(context.Background(), os.Args[1])
	fmt.Println("github.com/hashicorp/vault/api")
}

func journey(ctx context.Context, address string) {
	vault := connect(address, "")

	// init and unseal
	initialized := must(vault.Sys().InitStatus())
	assert(!initialized, "initialized before")
	made := must(vault.Sys().Init(&api.InitRequest{SecretShares: 3, SecretThreshold: 2}))
	status := must(vault.Sys().Unseal(made.Keys[0]))
	assert(status.Sealed && status.Progress == 1, "progress %+v", status)
	status = must(vault.Sys().Unseal(made.Keys[1]))
	assert(!status.Sealed, "still sealed")
	vault.SetToken(made.RootToken)
	health := must(vault.Sys().Health())
	assert(health.Initialized && !health.Sealed, "health %+v", health)

	// policies
	check(vault.Sys().PutPolicy("reader", `path "secret/data/app/*" { capabilities = ["read", "list"] }`))
	assert(slices.Contains(must(vault.Sys().ListPolicies()), "reader"), "no policy")
	assert(strings.Contains(must(vault.Sys().GetPolicy("reader")), "app"), "another policy")

	// kv, both versions
	check(vault.Sys().Mount("secret", &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
	check(vault.Sys().Mount("old", &api.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	kv := vault.KVv2("secret")
	must(kv.Put(ctx, "app/db", map[string]any{"user": "ada", "password": "one"}))
	must(kv.Patch(ctx, "app/db", map[string]any{"password": "two"}))
	read := must(kv.Get(ctx, "app/db"))
	assert(read.Data["user"] == "ada" && read.Data["password"] == "two", "read %v", read.Data)
	assert(read.VersionMetadata.Version == 2, "version %d", read.VersionMetadata.Version)
	_, err := kv.Put(ctx, "app/db", map[string]any{"no": "no"}, api.WithCheckAndSet(1))
	assert(err != nil, "a write over a newer version")
	must(kv.Rollback(ctx, "app/db", 1))
	check(kv.DeleteVersions(ctx, "app/db", []int{2}))
	check(kv.Undelete(ctx, "app/db", []int{2}))
	check(kv.Destroy(ctx, "app/db", []int{2}))
	check(kv.PutMetadata(ctx, "app/db", api.KVMetadataPutInput{MaxVersions: 5, CustomMetadata: map[string]any{"owner": "ada"}}))
	metadata := must(kv.GetMetadata(ctx, "app/db"))
	assert(metadata.CustomMetadata["owner"] == "ada" && metadata.CurrentVersion == 3, "metadata %+v", metadata)
	check(vault.KVv1("old").Put(ctx, "thing", map[string]any{"a": "b"}))
	assert(must(vault.KVv1("old").Get(ctx, "thing")).Data["a"] == "b", "kv v1")
	check(vault.KVv1("old").Delete(ctx, "thing"))
	_, err = vault.KVv1("old").Get(ctx, "thing")
	assert(errors.Is(err, api.ErrSecretNotFound), "deleted: %v", err)

	// logins, and who logged in
	check(vault.Sys().EnableAuthWithOptions("userpass", &api.EnableAuthOptions{Type: "userpass"}))
	write(vault, "auth/userpass/users/ada", map[string]any{"password": "correct horse", "policies": "reader"})
	check(vault.Sys().EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}))
	write(vault, "auth/approle/role/robot", map[string]any{"token_policies": []string{"reader"}, "token_ttl": "10m"})
	roleID := must(vault.Logical().Read("auth/approle/role/robot/role-id")).Data["role_id"]
	secretID := write(vault, "auth/approle/role/robot/secret-id", nil).Data["secret_id"]
	ada := login(address, "auth/userpass/login/ada", map[string]any{"password": "correct horse"})
	assert(must(ada.KVv2("secret").Get(ctx, "app/db")).Data["user"] == "ada", "ada reads")
	robot := login(address, "auth/approle/login", map[string]any{"role_id": roleID, "secret_id": secretID})
	_, err = robot.KVv2("secret").Put(ctx, "app/db", map[string]any{"no": "no"})
	refused(err, http.StatusForbidden)

	// identity
	entity := must(ada.Auth().Token().LookupSelf()).Data["entity_id"].(string)
	assert(entity != "", "no entity")
	write(vault, "identity/entity/id/"+entity, map[string]any{"name": "ada-lovelace", "metadata": map[string]any{"team": "engines"}})
	named := must(vault.Logical().Read("identity/entity/name/ada-lovelace"))
	assert(named.Data["id"] == entity, "another entity")
	check(vault.Sys().PutPolicy("writer", `path "secret/data/app/*" { capabilities = ["create", "update", "read"] }`))
	write(vault, "identity/group", map[string]any{"name": "engineers", "policies": []string{"writer"}, "member_entity_ids": []string{entity}})
	must(ada.KVv2("secret").Put(ctx, "app/db", map[string]any{"user": "ada", "password": "three"}))

	// transit
	check(vault.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	write(vault, "transit/keys/orders", map[string]any{"type": "aes256-gcm96"})
	plaintext := base64.StdEncoding.EncodeToString([]byte("hello"))
	sealed := write(vault, "transit/encrypt/orders", map[string]any{"plaintext": plaintext}).Data["ciphertext"].(string)
	assert(strings.HasPrefix(sealed, "vault:v1:"), "ciphertext %s", sealed)
	write(vault, "transit/keys/orders/rotate", nil)
	opened := write(vault, "transit/decrypt/orders", map[string]any{"ciphertext": sealed})
	assert(opened.Data["plaintext"] == plaintext, "plaintext %v", opened.Data)

	// wrapping
	wrapper := connect(address, made.RootToken)
	wrapper.SetWrappingLookupFunc(func(operation, path string) string { return "60s" })
	wrapped := must(wrapper.Logical().Read("secret/data/app/db"))
	unwrapped := must(vault.Logical().Unwrap(wrapped.WrapInfo.Token))
	assert(unwrapped.Data["data"].(map[string]any)["password"] == "three", "unwrapped %v", unwrapped.Data)
	_, err = vault.Logical().Unwrap(wrapped.WrapInfo.Token)
	assert(err != nil, "unwrapped twice")

	// tokens, renewed and revoked
	child := must(vault.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"reader"}, TTL: "1h", Metadata: map[string]string{"for": "a test"}}))
	kid := connect(address, child.Auth.ClientToken)
	renewed := must(kid.Auth().Token().RenewSelf(7200))
	assert(renewed.Auth.LeaseDuration == 7200, "renewed for %d", renewed.Auth.LeaseDuration)
	check(vault.Auth().Token().RevokeAccessor(child.Auth.Accessor))
	_, err = kid.Auth().Token().LookupSelf()
	refused(err, http.StatusForbidden)
	leases := must(vault.Logical().List("sys/leases/lookup/auth/userpass/login/ada"))
	assert(len(leases.Data["keys"].([]any)) == 1, "leases %v", leases.Data)
	check(vault.Sys().RevokePrefix("auth/userpass/login/ada"))
	_, err = ada.Auth().Token().LookupSelf()
	refused(err, http.StatusForbidden)
	check(robot.Auth().Token().RevokeSelf(""))
	check(vault.Sys().Seal())
	assert(must(vault.Sys().SealStatus()).Sealed, "not sealed")
}

func connect(address, token string) *api.Client {
	config := api.DefaultConfig()
	config.Address = address
	client := must(api.NewClient(config))
	client.SetToken(token)
	return client
}

func login(address, path string, proof map[string]any) *api.Client {
	client := connect(address, "")
	secret := write(client, path, proof)
	assert(slices.Contains(secret.Auth.Policies, "reader"), "policies %v", secret.Auth.Policies)
	client.SetToken(secret.Auth.ClientToken)
	return client
}

func write(client *api.Client, path string, data map[string]any) *api.Secret {
	return must(client.Logical().Write(path, data))
}

func refused(err error, status int) {
	var response *api.ResponseError
	assert(errors.As(err, &response) && response.StatusCode == status, "expected %d: %v", status, err)
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		_ = log.Output(3, err.Error())
		os.Exit(1)
	}
}

func assert(holds bool, format string, args ...any) {
	if !holds {
		_ = log.Output(2, fmt.Sprintf(format, args...))
		os.Exit(1)
	}
}
