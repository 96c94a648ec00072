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
// progress and errors go to standard error. The exit codes are in errors.go and
// in the help of the root command.
package main
