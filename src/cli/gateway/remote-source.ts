/** How the sources of mounts begin whose service is elsewhere, in the mount table: "tidemark://10.0.0.1:7400/app/share". */
export const REMOTE_SOURCE = "tidemark://";
