// One journey through a server that nobody has set up yet, with node-vault as it comes from npm.
//
//     node journey.mjs ADDRESS
//
// Ends with status 0 when every step went as node-vault's users expect.

import assert from 'node:assert/strict';
import nodeVault from 'node-vault';

const [address] = process.argv.slice(2);
if (!address) {
  console.error('usage: node journey.mjs ADDRESS');
  process.exit(2);
}
const connect = (token) => nodeVault({ apiVersion: 'v1', endpoint: address, token });
const vault = connect();

// init and unseal
assert.equal((await vault.initialized()).initialized, false);
const made = await vault.init({ secret_shares: 3, secret_threshold: 2 });
for (const key of made.keys.slice(0, 2)) await vault.unseal({ secret_shares: 3, key });
assert.equal((await vault.status()).sealed, false);
vault.token = made.root_token;
assert.equal((await vault.health()).initialized, true);

// policies
await vault.addPolicy({ name: 'reader', rules: 'path "secret/data/app/*" { capabilities = ["read", "list"] }' });
assert.ok((await vault.policies()).data.policies.includes('reader'));
assert.match((await vault.getPolicy({ name: 'reader' })).data.rules, /app/);

// kv, both versions
await vault.mount({ mount_point: 'secret', type: 'kv', options: { version: '2' } });
await vault.mount({ mount_point: 'old', type: 'kv' });
await vault.write('secret/data/app/db', { data: { user: 'ada', password: 'one' } });
await vault.write('secret/data/app/db', { data: { user: 'ada', password: 'two' }, options: { cas: 1 } });
const read = await vault.read('secret/data/app/db');
assert.deepEqual(read.data.data, { user: 'ada', password: 'two' });
assert.equal(read.data.metadata.version, 2);
assert.deepEqual((await vault.list('secret/metadata/app')).data.keys, ['db']);
await vault.delete('secret/data/app/db');
await assert.rejects(vault.read('secret/data/app/db'), (error) => error.response.statusCode === 404);
await vault.write('secret/undelete/app/db', { versions: [2] });
assert.equal((await vault.read('secret/data/app/db')).data.data.password, 'two');
await vault.write('old/thing', { a: 'b' });
assert.deepEqual((await vault.read('old/thing')).data, { a: 'b' });

// logins, and who logged in
await vault.enableAuth({ mount_point: 'userpass', type: 'userpass' });
await vault.write('auth/userpass/users/ada', { password: 'correct horse', policies: 'reader' });
await vault.enableAuth({ mount_point: 'approle', type: 'approle' });
await vault.write('auth/approle/role/robot', { token_policies: ['reader'], token_ttl: '10m' });
const { role_id } = (await vault.read('auth/approle/role/robot/role-id')).data;
const { secret_id } = (await vault.write('auth/approle/role/robot/secret-id')).data;
const ada = connect();
const login = await ada.userpassLogin({ username: 'ada', password: 'correct horse' });
assert.ok(login.auth.policies.includes('reader'));
ada.token = login.auth.client_token;
assert.equal((await ada.read('secret/data/app/db')).data.data.user, 'ada');
await assert.rejects(connect().userpassLogin({ username: 'ada', password: 'wrong' }));
const robot = connect();
const came = await robot.approleLogin({ role_id, secret_id });
robot.token = came.auth.client_token;
await assert.rejects(robot.write('secret/data/app/db', { data: {} }), (error) => error.response.statusCode === 403);

// identity
const entity = (await ada.tokenLookupSelf()).data.entity_id;
assert.ok(entity);
await vault.write(`identity/entity/id/${entity}`, { name: 'ada-lovelace', metadata: { team: 'engines' } });
assert.deepEqual((await vault.read('identity/entity/name/ada-lovelace')).data.metadata, { team: 'engines' });
await vault.addPolicy({ name: 'writer', rules: 'path "secret/data/app/*" { capabilities = ["create", "update", "read"] }' });
await vault.write('identity/group', { name: 'engineers', policies: ['writer'], member_entity_ids: [entity] });
await ada.write('secret/data/app/db', { data: { user: 'ada', password: 'three' } });

// transit
await vault.mount({ mount_point: 'transit', type: 'transit' });
await vault.write('transit/keys/orders', {});
const { ciphertext } = (await vault.encryptData({ name: 'orders', plaintext: 'aGVsbG8=' })).data;
assert.match(ciphertext, /^vault:v1:/);
await vault.write('transit/keys/orders/rotate', {});
assert.equal((await vault.decryptData({ name: 'orders', ciphertext })).data.plaintext, 'aGVsbG8=');

// wrapping
const wrapped = await vault.request({ path: '/secret/data/app/db', method: 'GET', headers: { 'X-Vault-Wrap-TTL': '60s', 'X-Vault-Token': vault.token } });
const unwrapped = await vault.unwrap({ token: wrapped.wrap_info.token });
assert.equal(unwrapped.data.data.password, 'three');
await assert.rejects(vault.unwrap({ token: wrapped.wrap_info.token }));

// tokens, renewed and revoked
// node-vault goes on with the token that it was given.
const child = (await connect(vault.token).tokenCreate({ policies: ['reader'], ttl: '1h', meta: { for: 'a test' } })).auth;
const kid = connect(child.client_token);
assert.deepEqual((await kid.tokenLookupSelf()).data.meta, { for: 'a test' });
assert.equal((await kid.tokenRenewSelf({ increment: '2h' })).auth.lease_duration, 7200);
await vault.tokenRevokeAccessor({ accessor: child.accessor });
await assert.rejects(kid.tokenLookupSelf(), (error) => error.response.statusCode === 403);
await vault.revokePrefix({ path_prefix: 'auth/userpass/login/ada' });
await assert.rejects(ada.tokenLookupSelf());
await robot.tokenRevokeSelf();
await vault.seal();
assert.equal((await vault.status()).sealed, true);
console.log('node-vault');
