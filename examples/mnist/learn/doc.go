// Package learn is the training side of the example: a small network, its
// minibatch gradient descent, the division of the data among clients, and the
// mean a combiner makes of its clients' models.
//
// Everything is a function of its arguments and a seed: the same seed gives the
// same clients, the same batches and, on one machine, the same bits.
//
//	shape := learn.Shape{Inputs: digits.Pixels, Hidden: 64, Outputs: digits.Classes}
//	params := shape.Init(seed)
//	clients, err := learn.Split(labels, 24, 0.5, seed)
//	trainer := learn.NewTrainer(shape, learn.DefaultHyper())
//	trainer.Train(params, train, clients[0], seed)
//
// A model is one []float32, its tensors one behind the other in the order of
// Shape.Tensors. A Trainer is for one goroutine at a time; all else is pure.
package learn
