// Command fedmesh runs a peer of the mesh and talks to one.
//
//	fedmesh node --name a --listen 127.0.0.1:8080 --gossip 127.0.0.1:7946 --data-dir a
//	fedmesh session create digits --seed seed.safetensors --target-combiners 2
//	fedmesh push digits update.npz --combiner c1 --weight 600
//	fedmesh pull digits -o model.npz
//	fedmesh status
//
// There is a file per subcommand. Each builds its cobra command from an *app,
// which holds the streams and the environment, so that tests run commands with
// buffers. A command prints its result, and nothing else, on standard output;
// progress and errors go to standard error, as text also with --json: scripts go
// by the exit code. That is what kubectl, gh and etcdctl do.
//
// # Exit codes
//
//	0    done
//	1    failed; for model diff: the models differ
//	2    wrong usage: unknown command or flag, missing or invalid value, or
//	     node --check found a fault
//	3    not found: no such session, round, model or file (any more), or
//	     nothing newer
//	4    refused by the mesh: the request was understood and is not acceptable,
//	     as a model of another layout or an update that differs from one held
//	5    unavailable: no peer could be reached, or none could do it now; try again
//	6    timed out: --timeout or --wait passed before it was done
//	7    denied: the token is missing, unknown or not good for this, or a
//	     certificate is not trusted
//	130  interrupted, by Ctrl-C or SIGTERM
package main
