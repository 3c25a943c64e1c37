import { expect, test } from "vitest";
import { formatNetworkAddress, isHostName, isLoopback, isWildcard, parseNetworkAddress } from "./network-address.ts";

test.each([
  ["10.0.0.1:7400", { host: "10.0.0.1", port: 7400 }],
  ["[fd00::1]:7400", { host: "fd00::1", port: 7400 }],
  ["files.example.net:1", { host: "files.example.net", port: 1 }],
  ["localhost:0", { host: "localhost", port: 0 }],
])("%s is an address, and is written so again", (text, address) => {
  expect(parseNetworkAddress("--listen", text)).toEqual(address);
  expect(formatNetworkAddress(address)).toBe(text);
});

test.each([
  "",
  "10.0.0.1",
  "7400",
  ":7400",
  "10.0.0.1:",
  "10.0.0.1:65536",
  "10.0.0.1:-1",
  "10.0.0.1:7400 ",
  "fd00::1:7400",
  "[10.0.0.1]:7400",
  "[fd00::1]",
  "[fe80::1%eth0]:7400",
  "10.0.0.256:7400",
  "10.0.1:7400",
  "a_b:7400",
  "-a:7400",
  "a..b:7400",
  "http://a:7400",
  `${"a".repeat(64)}:7400`,
  "a:b:7400",
  "10.0.0.1:7400\n",
])("%j is refused, with what was expected", (text) => {
  expect(() => parseNetworkAddress("--listen", text)).toThrow("expected HOST:PORT");
});

test.each([
  ["127.0.0.1", true],
  ["127.255.0.9", true],
  ["::1", true],
  ["::ffff:127.0.0.1", true],
  ["localhost", true],
  ["10.0.0.1", false],
  ["0.0.0.0", false],
  ["::", false],
  ["localhost.example.net", false],
  ["::ffff:10.0.0.1", false],
])("whether %s is loopback: %s", (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});

test("all addresses of a machine, and names, are told apart", () => {
  expect(["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::1", "10.0.0.1", "localhost"].map(isWildcard)).toEqual([
    ...[true, true, true],
    ...[false, false, false],
  ]);
  expect(["web-1.example", "10.0.0.1", "1.2", "web_1", ""].map(isHostName)).toEqual([true, false, false, false, false]);
});
