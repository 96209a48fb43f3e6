//! Statements that are put together.

use sqlx::AssertSqlSafe;

/// A statement that is put together from constants, and from names, numbers and dates that this program formats itself:
/// nothing of anybody else's ever gets into one. What comes from elsewhere is a parameter.
pub fn constant_sql<T>(sql: T) -> AssertSqlSafe<T> {
    AssertSqlSafe(sql)
}
