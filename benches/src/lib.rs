//! The load generator and the tables it prints
