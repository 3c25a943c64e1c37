import { openGuarded } from "../model/open-guarded.ts";
import { metadataContract } from "./metadata-contract.ts";

// At a moment at which a file had no name, no name leads to it: it is outside of what a token is for. The engine alone shows it by its number.
const except = ["an inode is not there before it was made, nor after it ended"];

metadataContract("the engine behind a token", openGuarded, { manyNames: 1_000, except });
