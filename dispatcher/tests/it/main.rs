//! The dispatcher over stores in memory: scripted receivers in virtual time, and hostile ones over
//! real sockets.

mod analytics;
mod catch_up;
mod fairness;
mod following;
mod hostile;
mod retries;
mod world;
