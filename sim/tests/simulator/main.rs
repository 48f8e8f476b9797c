//! What a user of the simulator relies on: the library, and the program. One program of tests, as building each takes
//! longer than running it; what plants bugs, counts bytes or explores stands beside it.

mod cli;
mod corpus;
mod export;
mod hostile;
mod locate;
mod regressions;
mod runs;
mod scale;
mod shrink;
mod view;
