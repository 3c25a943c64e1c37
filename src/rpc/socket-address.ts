import { closeSync, openSync } from "node:fs";
import { basename, dirname } from "node:path";

/** sun_path of sockaddr_un has 108 bytes with its zero (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/** A way to name a Unix socket to the kernel; `close` gives back what it holds, once. */
export type SocketAddress = { readonly path: string; close(): void };

/**
 * Names the socket at `path`, however long that is: a path beyond the kernel's bound goes through a descriptor of its folder, kept open until `close`.
 * Throws the system's error when the folder is absent.
 */
export function socketAddress(path: string): SocketAddress {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return { path, close: () => {} };
  const folder = openSync(dirname(path), "r");
  let open = true;
  return {
    path: `/proc/self/fd/${folder}/${basename(path)}`,
    close: () => {
      if (open) closeSync(folder);
      open = false;
    },
  };
}
