"""The native engine: the loops of RNN, LSTM and GRU in C++, for CPUs."""
