import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseSections, resolveIdentity } from "./s3-credentials.ts";

let home: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "tidemark-home-"));
  await mkdir(join(home, ".aws"));
});
afterEach(async () => rm(home, { recursive: true }));

const writeCredentials = (text: string): Promise<void> => writeFile(join(home, ".aws/credentials"), text);
const writeConfig = (text: string): Promise<void> => writeFile(join(home, ".aws/config"), text);
const keys = (name: string) => `aws_access_key_id = ${name}-id\naws_secret_access_key=${name}/secret+=\n`;

test("what is given comes first, then the variables, then the files", async () => {
  await writeCredentials(`[default]\n${keys("file")}`);
  const environment = { HOME: home, AWS_ACCESS_KEY_ID: "variable-id", AWS_SECRET_ACCESS_KEY: "variable-secret" };
  const given = { accessKeyId: "given-id", secretAccessKey: "given-secret" };
  const idOf = async (options: Parameters<typeof resolveIdentity>[0]): Promise<string> =>
    (await resolveIdentity(options)).credentials.accessKeyId;
  expect(await idOf({ credentials: given, environment })).toBe("given-id");
  expect(await idOf({ environment })).toBe("variable-id");
  expect(await idOf({ environment: { HOME: home } })).toBe("file-id");
  expect(await idOf({ environment, profile: "default" })).toBe("file-id");
});

test("a profile brings its keys, token, region and endpoint from both files", async () => {
  await writeCredentials(
    `# comment\n[other]\n${keys("other")}\n[ work ] ; ours\n${keys("work")}aws_session_token=tok\n`,
  );
  await writeConfig(
    "[default]\nregion = eu-west-1\n[profile work]\nregion=eu-north-1\nendpoint_url = https://s3.example\ns3 =\n  addressing_style = path\n",
  );
  const identity = await resolveIdentity({ environment: { HOME: home, AWS_PROFILE: "work" } });
  expect(identity).toEqual({
    credentials: { accessKeyId: "work-id", secretAccessKey: "work/secret+=", sessionToken: "tok" },
    region: "eu-north-1",
    endpoint: "https://s3.example",
  });
});

test("variables name the files, the region and the endpoint", async () => {
  await writeFile(join(home, "mine"), `[default]\n${keys("mine")}`);
  const identity = await resolveIdentity({
    environment: {
      AWS_SHARED_CREDENTIALS_FILE: join(home, "mine"),
      AWS_DEFAULT_REGION: "us-west-2",
      AWS_ENDPOINT_URL: "http://localhost:1",
    },
  });
  expect(identity.credentials.accessKeyId).toBe("mine-id");
  expect([identity.region, identity.endpoint]).toEqual(["us-west-2", "http://localhost:1"]);
});

test("none at all, half a pair and broken ones are said, without what they are", async () => {
  await expect(resolveIdentity({ environment: {} })).rejects.toMatchObject({ code: "BLOB_DENIED" });
  await expect(resolveIdentity({ environment: { HOME: home }, profile: "nope" })).rejects.toThrow(/"nope"/);
  const half = { AWS_SECRET_ACCESS_KEY: "topsecret" };
  await expect(resolveIdentity({ environment: half })).rejects.toMatchObject({
    code: "BLOB_INVALID",
    message: expect.not.stringContaining("topsecret"),
  });
  const broken = { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "top secret\n" };
  await expect(resolveIdentity({ environment: broken })).rejects.toMatchObject({
    code: "BLOB_INVALID",
    message: expect.not.stringContaining("top"),
  });
});

test("a file that is too large, or can't be read, is an error and not an absence", async () => {
  await writeCredentials("#".repeat(1024 * 1024 + 1));
  await expect(resolveIdentity({ environment: { HOME: home } })).rejects.toMatchObject({ code: "BLOB_INVALID" });
  await rm(join(home, ".aws/credentials"));
  await mkdir(join(home, ".aws/credentials"));
  await expect(resolveIdentity({ environment: { HOME: home } })).rejects.toMatchObject({ code: "BLOB_DENIED" });
});

test("sections take settings as they are written, the last of a key, and no others", () => {
  const sections = parseSections("lost = 1\r\n[a]\r\nKey=1\r\nkey = 2 \r\nempty =\n;c = 3\n[b]\nx=y=z\n[a]\nmore=4");
  expect([...sections].map(([name, section]) => [name, Object.fromEntries(section)])).toEqual([
    ["a", { key: "2", more: "4" }],
    ["b", { x: "y=z" }],
  ]);
});
