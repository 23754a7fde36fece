package journey;

import java.net.URI;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.function.Supplier;

import org.springframework.vault.VaultException;
import org.springframework.vault.authentication.AppRoleAuthentication;
import org.springframework.vault.authentication.AppRoleAuthenticationOptions;
import org.springframework.vault.authentication.AppRoleAuthenticationOptions.RoleId;
import org.springframework.vault.authentication.AppRoleAuthenticationOptions.SecretId;
import org.springframework.vault.authentication.ClientAuthentication;
import org.springframework.vault.authentication.SimpleSessionManager;
import org.springframework.vault.authentication.TokenAuthentication;
import org.springframework.vault.client.RestTemplateBuilder;
import org.springframework.vault.client.SimpleVaultEndpointProvider;
import org.springframework.vault.client.VaultEndpoint;
import org.springframework.vault.core.VaultKeyValueOperationsSupport.KeyValueBackend;
import org.springframework.vault.core.VaultTemplate;
import org.springframework.vault.support.Ciphertext;
import org.springframework.vault.support.Plaintext;
import org.springframework.vault.support.Policy;
import org.springframework.vault.support.Policy.BuiltinCapabilities;
import org.springframework.vault.support.Policy.Rule;
import org.springframework.vault.support.VaultInitializationRequest;
import org.springframework.vault.support.VaultMount;
import org.springframework.vault.support.VaultToken;
import org.springframework.vault.support.VaultTokenRequest;
import org.springframework.vault.support.VaultTransitKeyCreationRequest;

/**
 * One journey through a server that nobody has set up yet, with spring-vault-core, unmodified. The address is the one
 * argument; the status is 0 when every step went as its users expect.
 */
public final class Journey {
    private static VaultEndpoint endpoint;

    public static void main(String[] arguments) {
        endpoint = VaultEndpoint.from(URI.create(arguments[0]));

        // init and unseal
        // The client sends a token with everything; where none is needed, any will do.
        var anyone = connect(new TokenAuthentication("none-yet"));
        holds(!anyone.opsForSys().isInitialized(), "initialized before");
        var made = anyone.opsForSys().initialize(VaultInitializationRequest.create(3, 2));
        holds(anyone.opsForSys().unseal(made.getKeys().get(0)).isSealed(), "one key was enough");
        holds(!anyone.opsForSys().unseal(made.getKeys().get(1)).isSealed(), "still sealed");
        var vault = connect(new TokenAuthentication(made.getRootToken()));
        holds(vault.opsForSys().health().isInitialized(), "health");

        // policies
        vault.opsForSys().createOrUpdatePolicy("reader", Policy.of(
                Rule.builder().path("secret/data/app/*").capabilities(BuiltinCapabilities.READ).build()));
        holds(vault.opsForSys().getPolicyNames().contains("reader"), "no policy");

        // kv, both versions
        vault.opsForSys().mount("secret", VaultMount.builder().type("kv").options(Map.of("version", "2")).build());
        vault.opsForSys().mount("old", VaultMount.builder().type("kv").options(Map.of("version", "1")).build());
        var kv = vault.opsForVersionedKeyValue("secret");
        kv.put("app/db", Map.of("user", "ada", "password", "one"));
        holds(kv.put("app/db", Map.of("user", "ada", "password", "two")).getVersion().getVersion() == 2, "version");
        holds("two".equals(kv.get("app/db").getRequiredData().get("password")), "read");
        holds(kv.list("app").equals(List.of("db")), "list");
        holds(vault.opsForKeyValue("secret", KeyValueBackend.KV_2).patch("app/db", Map.of("more", "yes")), "patch");
        kv.delete("app/db");
        holds(kv.get("app/db").getData() == null, "deleted");
        kv.undelete("app/db", org.springframework.vault.support.Versioned.Version.from(3));
        holds("yes".equals(kv.get("app/db").getRequiredData().get("more")), "undeleted");
        var old = vault.opsForKeyValue("old", KeyValueBackend.KV_1);
        old.put("thing", Map.of("a", "b"));
        holds("b".equals(old.get("thing").getRequiredData().get("a")), "kv v1");
        old.delete("thing");
        holds(old.get("thing") == null, "kv v1 deleted");

        // logins, and who logged in
        vault.opsForSys().authMount("userpass", VaultMount.create("userpass"));
        vault.write("auth/userpass/users/ada", Map.of("password", "correct horse", "policies", "reader"));
        vault.opsForSys().authMount("approle", VaultMount.create("approle"));
        vault.write("auth/approle/role/robot", Map.of("token_policies", "reader", "token_ttl", "10m"));
        var role = (String) vault.read("auth/approle/role/robot/role-id").getRequiredData().get("role_id");
        var secret = (String) vault.write("auth/approle/role/robot/secret-id", Map.of()).getRequiredData().get("secret_id");
        var options = AppRoleAuthenticationOptions.builder().roleId(RoleId.provided(role)).secretId(SecretId.provided(secret)).build();
        var robot = connect(new AppRoleAuthentication(options, rest().build()));
        holds("ada".equals(robot.opsForVersionedKeyValue("secret").get("app/db").getRequiredData().get("user")), "a robot reads");
        refused(() -> robot.opsForVersionedKeyValue("secret").put("app/db", Map.of("no", "no")));
        var login = anyone.doWithVault(rest -> rest.postForObject("auth/userpass/login/ada",
                Map.of("password", "correct horse"), org.springframework.vault.support.VaultResponse.class));
        var ada = connect(new TokenAuthentication((String) login.getAuth().get("client_token")));

        // identity
        var entity = (String) ada.read("auth/token/lookup-self").getRequiredData().get("entity_id");
        holds(!entity.isEmpty(), "no entity");
        vault.write("identity/entity/id/" + entity, Map.of("name", "ada-lovelace"));
        holds(entity.equals(vault.read("identity/entity/name/ada-lovelace").getRequiredData().get("id")), "entity");
        vault.opsForSys().createOrUpdatePolicy("writer", Policy.of(Rule.builder().path("secret/data/app/*")
                .capabilities(BuiltinCapabilities.CREATE, BuiltinCapabilities.UPDATE, BuiltinCapabilities.READ).build()));
        vault.write("identity/group", Map.of("name", "engineers", "policies", List.of("writer"), "member_entity_ids", List.of(entity)));
        ada.opsForVersionedKeyValue("secret").put("app/db", Map.of("password", "three"));

        // transit
        vault.opsForSys().mount("transit", VaultMount.create("transit"));
        var transit = vault.opsForTransit();
        transit.createKey("orders", VaultTransitKeyCreationRequest.ofKeyType("aes256-gcm96"));
        Ciphertext sealed = transit.encrypt("orders", Plaintext.of("hello"));
        holds(sealed.getCiphertext().startsWith("vault:v1:"), "ciphertext");
        transit.rotate("orders");
        holds(transit.rewrap("orders", sealed.getCiphertext()).startsWith("vault:v2:"), "rewrapped");
        holds("hello".equals(transit.decrypt("orders", sealed).asString()), "plaintext");
        transit.createKey("signer", VaultTransitKeyCreationRequest.ofKeyType("ed25519"));
        var signature = transit.sign("signer", Plaintext.of("hello"));
        holds(transit.verify("signer", Plaintext.of("hello"), signature), "signature");
        holds(!transit.verify("signer", Plaintext.of("hallo"), signature), "another's signature");

        // wrapping
        var wrapping = vault.opsForWrapping();
        var wrapped = wrapping.wrap(Map.of("answer", "42"), Duration.ofMinutes(1));
        holds(wrapping.lookup(wrapped.getToken()) != null, "wrapping lookup");
        var rewrapped = wrapping.rewrap(wrapped.getToken());
        holds("42".equals(wrapping.read(rewrapped.getToken()).getRequiredData().get("answer")), "unwrapped");
        holds(wrapping.lookup(rewrapped.getToken()) == null, "unwrapped and there");

        // tokens, renewed and revoked
        var request = VaultTokenRequest.builder().withPolicy("reader").ttl(Duration.ofHours(1)).renewable().build();
        var child = vault.opsForToken().create(request).getToken();
        holds(vault.opsForToken().renew(child) != null, "renewed");
        vault.opsForToken().revoke(child);
        refused(() -> connect(new TokenAuthentication(child)).read("auth/token/lookup-self"));
        vault.write("sys/leases/revoke-prefix/auth/userpass/login/ada", null);
        refused(() -> ada.read("auth/token/lookup-self"));
        System.out.println("spring-vault-core");
    }

    private static VaultTemplate connect(ClientAuthentication authentication) {
        return new VaultTemplate(rest(), new SimpleSessionManager(authentication));
    }

    private static RestTemplateBuilder rest() {
        return RestTemplateBuilder.builder().endpointProvider(SimpleVaultEndpointProvider.of(endpoint));
    }

    private static void refused(Supplier<?> call) {
        try {
            call.get();
        } catch (VaultException expected) {
            holds(expected.getMessage().contains("403"), expected.getMessage());
            return;
        }
        throw new AssertionError("it was not refused");
    }

    private static void holds(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    private Journey() {
    }
}
