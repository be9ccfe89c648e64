/** Variables that Kubernetes sets for each service in each pod (service links); Docker's links have the same form. */
const serviceLinkNames = /_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;

export function isServiceLink(name: string, value: string): boolean {
  return serviceLinkNames.test(name) || isServiceLinkPort(name, value);
}

/** `<SERVICE>_PORT` of a service link is a URL. */
export function isServiceLinkPort(name: string, value: string): boolean {
  return name.endsWith("_PORT") && /^(tcp|udp|sctp):\/\//.test(value);
}
