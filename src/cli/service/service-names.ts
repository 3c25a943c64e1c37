import { isIP } from "node:net";
import { isHostName, isLoopback, isWildcard, type NetworkAddress } from "../../rpc/tls/network-address.ts";

/** What a machine is called, and its addresses (os.hostname and os.networkInterfaces, loopback and link-local ones left out). */
export type Machine = { readonly hostName: string; readonly addresses: readonly string[] };

/** Names and addresses of one certificate, and of one ticket: some machines have hundreds of addresses (one for each service of a cluster), and neither has room for all. The machine's own come first, as the system lists them. */
const NAMES_MAX = 64;
const REACHABLE_MAX = 16;

const LOOPBACK_NAMES = ["localhost", "127.0.0.1", "::1"];

/** Names and addresses that the service's certificate holds for: those it listens on, the machine's name, and those it was told. */
export function certificateNames(
  listens: readonly NetworkAddress[],
  { names, machine }: { readonly names: readonly string[]; readonly machine: Machine },
): string[] {
  const heard = listens.flatMap(({ host }) => {
    if (isWildcard(host)) return [...LOOPBACK_NAMES, ...machine.addresses];
    return isLoopback(host) ? LOOPBACK_NAMES.concat(host) : [host];
  });
  const all = [...names, machine.hostName, ...heard].filter((name) => isIP(name) !== 0 || isHostName(name));
  return [...new Set(all)].slice(0, NAMES_MAX);
}

/** Where nodes reach the service, the likeliest first: under the names it was told, then where it listens. */
export function reachableAddresses(
  listens: readonly NetworkAddress[],
  { names, machine }: { readonly names: readonly string[]; readonly machine: Machine },
): NetworkAddress[] {
  const named = listens.flatMap(({ port }) => names.map((host) => ({ host, port })));
  const heard = listens.flatMap(({ host, port }) =>
    (isWildcard(host) ? [...machine.addresses, machine.hostName] : [host]).map((each) => ({ host: each, port })),
  );
  const seen = new Set<string>();
  const all = [...named, ...heard].filter(({ host, port }) => {
    const key = `${host} ${port}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
  return all.slice(0, REACHABLE_MAX);
}
