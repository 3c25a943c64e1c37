/** The supervisor of a mount in the background: started by `tidemark mount --service` (start-gateway.ts), never by hand. */
import { GATEWAY_OPTIONS_VARIABLE, type GatewayProcessOptions, runGateway } from "./run-gateway.ts";

const options = JSON.parse(process.env[GATEWAY_OPTIONS_VARIABLE] ?? "{}") as GatewayProcessOptions;
process.exit(await runGateway(options, process.env));
